import * as EtcdBinary from "./EtcdBinary.js"

/** Finds or fetches etcd once, and hands it to the processes that run the tests; without one, no test runs. */
export const setup = async (): Promise<void> => {
  try {
    const { etcd, version } = await EtcdBinary.resolve()
    process.env.ETCD_BIN = etcd
    console.log(`etcd ${version}`)
  } catch (error) {
    if (error instanceof EtcdBinary.EtcdNotFoundError) {
      console.error(error.message)
      process.exit(1)
    }
    throw error
  }
}
