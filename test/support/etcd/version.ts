/**
 * Whether `version` ("3.5.16") is one that `wanted` ("3", "3.5" or "3.5.16") names.
 */
export const matchesVersion = (version: string, wanted: string): boolean =>
  version.startsWith(wanted) && !/^\d/.test(version.slice(wanted.length))

/** Whether the library supports servers of this version: etcd 3.4 and later. */
export const isSupported = (version: string): boolean => {
  const [major, minor] = version.split(".").map(Number)
  return major > 3 || major === 3 && minor >= 4
}
