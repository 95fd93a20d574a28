const SIGNALS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;

/**
 * Ctrl-C and its kin run `stop` once and end the process; without it an embedded PostgreSQL would outlive us.
 * A command that wants SIGINT for itself (psql) adds a listener of its own. Returns a function that takes this back.
 */
export function stopOnSignal(stop: () => Promise<void>, exitCode?: number): () => void {
  let stopping = false;
  const handlers = Object.entries(SIGNALS).map(([signal, number]) => {
    const handler = () => {
      if (stopping || process.listenerCount(signal) > 1) return;
      stopping = true;
      stop()
        .catch((error: Error) => console.error(error.message))
        .finally(() => process.exit(exitCode ?? 128 + number));
    };
    process.on(signal, handler);
    return [signal, handler] as const;
  });
  return () => {
    for (const [signal, handler] of handlers) process.off(signal, handler);
  };
}
