const REASONS: Record<string, string> = {
  EACCES: "this user has no permission",
  EPERM: "this user has no permission",
  EROFS: "it is on a read-only file system",
  ENOSPC: "the disk is full",
  ENOTDIR: "something on the way to it is no folder",
  EEXIST: "it is no folder",
  ENOENT: "it cannot be made there",
};

/** The error in words of ROWHOUSE_DIR, when the folder is what is wrong; else the error as it is. */
export function explained(error: unknown, folder: string): unknown {
  const reason = REASONS[(error as NodeJS.ErrnoException)?.code ?? ""];
  if (!reason) return error;
  return new Error(
    `Cannot write in ROWHOUSE_DIR (${folder}): ${reason}. Set ROWHOUSE_DIR to a folder of your own.`,
    { cause: error },
  );
}
