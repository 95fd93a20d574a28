// How pg turns a JavaScript value into a parameter; @types/pg does not know it.
declare module "pg/lib/utils.js" {
  const utils: { prepareValue(value: unknown): string | Buffer | null };
  export default utils;
}
