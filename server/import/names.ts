// What data.definition_violations and data.graphql_names refuse; a test compares them.
const SYSTEM = new Set(
  "id created_at updated_at version created_by data node_id query client_mutation_id and or not".split(" "),
);

// What data.check_entity_name refuses; a test compares them.
const RESERVED = new Set(
  `auth sites graphql mcp realtime functions variables analytics files search schema events workflows kv openapi export
   transaction docs query mutation
   subscription node nodes page_info cursor json jsonb string int float boolean uuid date datetime interval big_int
   big_float`.split(/\s+/),
);

/** `InvoiceLine` → `invoice_line`, `HTTPServer` → `http_server`, `Größe (cm)` → `grosse_cm`. */
export function snakeCase(name: string): string {
  return name
    .replace(/ß/g, "ss")
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
    .replace(/([A-Z]+)([A-Z][a-z])/g, "$1_$2")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "_")
    .replace(/^_+|_+$/g, "");
}

/** Names of properties for the keys of a file, valid and distinct; what clashes with a system column becomes source_…. */
export function propertyNames(keys: Iterable<string>): Map<string, string> {
  return distinct(keys, camelCase, (key) => {
    const name = startingWithLetter(snakeCase(key) || "field");
    return cut(SYSTEM.has(name) ? `source_${name}` : name, 54);
  });
}

/** Names of entities for the keys of a file, valid and distinct also where one is another's plural. */
export function entityNames(keys: Iterable<string>): Map<string, string> {
  return distinct(
    keys,
    (name) => camelCase(singular(name)),
    (key) => {
      const name = cut(startingWithLetter(snakeCase(key) || "record"), 36);
      return RESERVED.has(name) || RESERVED.has(singular(name)) || /_(jsonb|flat)$/.test(name)
        ? `${name}_record`
        : name;
    },
  );
}

/** `a_1` and `a1` are both `a1`: GraphQL's spelling, in which names must differ too. */
export function camelCase(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

const startingWithLetter = (name: string) => (/^[a-z]/.test(name) ? name : `n_${name}`);
const cut = (name: string, length: number) => name.slice(0, length).replace(/_$/, "");

function distinct(
  keys: Iterable<string>,
  spelling: (name: string) => string,
  nameOf: (key: string) => string,
): Map<string, string> {
  const names = new Map<string, string>();
  const used = new Set<string>();
  for (const key of keys) {
    const base = nameOf(key);
    let name = base;
    for (let n = 2; used.has(spelling(name)); n++) name = `${base}_${n}`;
    used.add(spelling(name));
    names.set(key, name);
  }
  return names;
}

/** What one of them is called: customers → customer, companies → company, address → address. */
export function singular(name: string): string {
  if (/ies$/.test(name)) return name.replace(/ies$/, "y");
  if (/(s|x|z|ch|sh)es$/.test(name)) return name.replace(/es$/, "");
  return /[^su]s$/.test(name) ? name.replace(/s$/, "") : name;
}
