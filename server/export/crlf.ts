const QUOTE = 0x22;
const LF = 0x0a;

/** COPY ends the lines of CSV with LF, RFC 4180 with CRLF. Line feeds within quotes are data and stay as they are. */
export async function* withCrlf(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let quoted = false;
  for await (const chunk of chunks) {
    const out = Buffer.allocUnsafe(chunk.length * 2);
    let length = 0;
    for (const byte of chunk) {
      if (byte === QUOTE) quoted = !quoted;
      else if (byte === LF && !quoted) out[length++] = 0x0d;
      out[length++] = byte;
    }
    yield out.subarray(0, length);
  }
}
