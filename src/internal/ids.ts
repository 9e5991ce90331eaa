/** Identifiers that nobody else has: random, so that no two processes need to agree. */
import { randomBytes } from "node:crypto"

/** Positive, so that it reads the same everywhere; above 2^53, so a bigint. */
export const randomLeaseId = (): bigint => (randomBytes(8).readBigUInt64BE() & 0x7fff_ffff_ffff_ffffn) || 1n

/** As etcd's tools print lease ids. */
export const leaseHex = (id: bigint): string => BigInt.asUintN(64, id).toString(16)

/** 96 random bits, as text that may stand in a key. */
export const randomSuffix = (): string => randomBytes(12).toString("hex")
