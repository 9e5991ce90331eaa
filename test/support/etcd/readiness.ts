import * as Http from "node:http"

/** Asks a server for its health once. */
const isHealthy = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const request = Http.get({ host: "127.0.0.1", port, path: "/health", agent: false, timeout: 2_000 }, (response) => {
      let body = ""
      response.setEncoding("utf8").on("data", (chunk: string) => {
        body += chunk
      })
      response.on("end", () => resolve(response.statusCode === 200 && /"health":\s*"true"/.test(body)))
      response.on("error", () => resolve(false))
    })
    request.on("timeout", () => request.destroy())
    request.on("error", () => resolve(false))
  })

const pause = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))

/** Waits until the server that serves its health on `port` has a leader and answers, as long as `goOn` says so. */
export const untilHealthy = async (port: number, goOn: () => boolean): Promise<boolean> => {
  while (goOn()) {
    if (await isHealthy(port)) {
      return true
    }
    await pause(20)
  }
  return false
}
