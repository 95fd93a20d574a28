const SYSTEM = new Set([
  "id",
  "created_at",
  "updated_at",
  "version",
  "created_by",
  "data",
  "node_id",
  "query",
  "client_mutation_id",
]);

/** `InvoiceLine` → `invoice_line`, `HTTPServer` → `http_server`, `Größe (cm)` → `groesse_cm`. */
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
  return distinct(keys, (key) => {
    const name = snakeCase(key) || "field";
    const valid = /^[a-z]/.test(name) ? name : `n_${name}`;
    return (SYSTEM.has(valid) ? `source_${valid}` : valid).slice(0, 54).replace(/_$/, "");
  });
}

/** Names of entities for the keys of a file, valid and distinct. `taken` says which names are reserved. */
export function entityNames(
  keys: Iterable<string>,
  taken: (name: string) => boolean = () => false,
): Map<string, string> {
  return distinct(keys, (key) => {
    const name = snakeCase(key) || "record";
    const valid = (/^[a-z]/.test(name) ? name : `n_${name}`).slice(0, 36).replace(/_$/, "");
    return taken(valid) || /_(jsonb|flat)$/.test(valid) ? `${valid}_record` : valid;
  });
}

function distinct(keys: Iterable<string>, nameOf: (key: string) => string): Map<string, string> {
  const names = new Map<string, string>();
  const used = new Set<string>();
  for (const key of keys) {
    const base = nameOf(key);
    let name = base;
    for (let n = 2; used.has(name); n++) name = `${base}_${n}`;
    used.add(name);
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
