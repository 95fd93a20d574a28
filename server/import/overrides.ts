import { readFileSync } from "node:fs";
import type { Inferred, Property } from "./infer.ts";
import { ImportError } from "./read.ts";

/** What a user says of one entity; a property that is null is left out. */
export interface EntityOverride {
  properties?: Record<string, Record<string, unknown> | null>;
  required?: string[];
  key?: string[];
}
/** Definitions given with --schema: names of entities by names in the file, and parts that replace what is inferred. */
export interface Overrides {
  names?: Record<string, string>;
  entities: Record<string, EntityOverride>;
}

/** Reads a file for --schema, in the form that --dry-run prints. Throws ImportError. */
export function readOverrides(file: string): Overrides {
  let given: unknown;
  try {
    given = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new ImportError(`${file} cannot be read as JSON: ${(error as Error).message}`, { cause: error });
  }
  const form = 'expected {"entities": {"invoice": {"properties": {…}, "required": […], "key": […]}}}';
  if (!isObject(given)) throw new ImportError(`${file} is no schema for import: ${form}.`);
  const { entities = {}, names = {}, ...rest } = given;
  if (Object.keys(rest).length > 0 || !isObject(entities) || !isObject(names))
    throw new ImportError(`${file} is no schema for import: ${form}, beside it at most {"names": {…}}.`);
  for (const [entity, override] of Object.entries(entities)) {
    const {
      properties = {},
      required = [],
      key = [],
      type = "object",
      ...unknown
    } = isObject(override) ? override : { it: 0 };
    const lists = [required, key].every(
      (list) => Array.isArray(list) && list.every((name) => typeof name === "string"),
    );
    if (Object.keys(unknown).length > 0 || !lists || type !== "object" || !isObject(properties))
      throw new ImportError(`"${entity}" in ${file} is not understood: ${form}.`);
  }
  return { entities, names } as Overrides;
}

/**
 * Lays what the user says over what is inferred. A property with type or enum replaces the inferred one, another one adds
 * to it (a keyword that is null is taken away), and a property that is null is not imported.
 */
export function overrideDefinition(one: Inferred, all: Inferred[], overrides: Overrides): void {
  const unknown = Object.keys(overrides.entities).find((name) => !all.some((other) => other.entity === name));
  if (unknown !== undefined)
    throw new ImportError(
      `--schema speaks of "${unknown}", but the file has ${all.map((other) => other.entity).join(", ")}.`,
    );
  const given = overrides.entities[one.entity];
  if (!given) return;
  one.override = given;
  for (const [name, property] of Object.entries(given.properties ?? {}))
    if (property === null) leaveOut(one, name);
  one.definition.properties = overridden(one.definition.properties, given);
  if (given.required) one.definition.required = [...given.required];
  if (given.key) one.key = [...given.key];
  const missing = one.key.find((name) => !one.definition.properties[name] && name !== "import_key");
  if (missing)
    throw new ImportError(`The key of ${one.entity} names "${missing}", which is no property of it.`);
}

/** Properties with what the user says of them laid over. */
export function overridden(
  properties: Record<string, Property>,
  override: EntityOverride = {},
): Record<string, Property> {
  const out = { ...properties };
  for (const [name, property] of Object.entries(override.properties ?? {}))
    if (property !== null)
      out[name] = withoutNulls(replaces(property) ? property : { ...properties[name], ...property });
  return out;
}

const replaces = (property: Record<string, unknown>) =>
  typeof property.type === "string" || Array.isArray(property.enum);

/** Removes a property: it is not imported. */
export function leaveOut({ definition, columns }: Inferred, name: string): void {
  delete definition.properties[name];
  definition.required = definition.required.filter((required) => required !== name);
  columns.delete(name);
}

function withoutNulls(property: Record<string, unknown>): Property {
  return Object.fromEntries(Object.entries(property).filter(([, value]) => value !== null)) as Property;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
