/** What a rejected statement said: SQLSTATE, message, and DETAIL parsed as our JSON where it is. */
export interface Failure {
  code: string;
  message: string;
  hint: string;
  detail: { code?: string; errors?: { pointer: string; message: string }[] };
}

/** Runs work that must be refused by PostgreSQL and returns how; throws when it succeeds. */
export async function refusal(work: Promise<unknown>): Promise<Failure> {
  try {
    await work;
  } catch (error) {
    const { code, message, hint, detail } = error as {
      code: string;
      message: string;
      hint: string;
      detail?: string;
    };
    return { code, message, hint, detail: detail?.startsWith("{") ? JSON.parse(detail) : {} };
  }
  throw new Error("This was expected to be refused, and it succeeded.");
}
