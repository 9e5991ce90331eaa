/** What stands for a message that a server leaves out: the protocol's defaults. */
import type { Header, KeyValue } from "../Txn.js"
import { empty } from "./bytes.js"

export const noHeader: Header = { clusterId: 0n, memberId: 0n, revision: 0n, raftTerm: 0n }

export const noKeyValue: KeyValue = {
  key: empty,
  value: empty,
  createRevision: 0n,
  modRevision: 0n,
  version: 0n,
  lease: 0n
}
