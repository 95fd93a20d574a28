/** The character between columns: the one of comma, semicolon and tab that the first line has most of, outside quotes. */
export function delimiterOf(text: string): string {
  const header = (/^[^\r\n]*/.exec(text)?.[0] ?? "").replace(/"[^"]*"/g, "");
  const count = (character: string) => header.split(character).length;
  return [";", "\t"].reduce((best, next) => (count(next) > count(best) ? next : best), ",");
}
