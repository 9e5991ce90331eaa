import * as EtcdBinary from "./EtcdBinary.js"

/** Finds or fetches etcd once, and hands it to the processes that run the tests. */
export const setup = async (): Promise<void> => {
  const { etcd, version } = await EtcdBinary.resolve()
  process.env.ETCD_BIN = etcd
  console.log(`etcd ${version}`)
}
