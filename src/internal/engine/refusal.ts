import type { Status } from "../etcdErrors.js"

/** Thrown inside the engine where etcd answers with an error; the connection turns it into an `EtcdError`. */
export class Refusal extends Error {
  readonly status: Status

  constructor(status: Status) {
    super(status.details)
    this.name = "Refusal"
    this.status = status
  }
}

export const refuse = (status: Status): never => {
  throw new Refusal(status)
}
