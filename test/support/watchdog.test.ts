import { assert, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, watch } from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const canConnect = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = Net.connect(port, "127.0.0.1")
    socket.once("close", (failed) => resolve(!failed))
    socket.once("connect", () => socket.destroy()).once("error", () => {})
  })

const removed = async (folder: string): Promise<void> => {
  const watcher = watch(Path.dirname(folder))
  while (existsSync(folder)) {
    await once(watcher, "change")
  }
  watcher.close()
}

it("a server does not outlive a test process that is killed", async () => {
  const script = fileURLToPath(new URL("./fixtures/leaveServerBehind.ts", import.meta.url))
  const child = spawn(process.execPath, ["--import", "tsx", script], { stdio: ["ignore", "pipe", "inherit"] })
  const [line] = await Promise.race([
    once(createInterface({ input: child.stdout }), "line"),
    once(child, "exit").then(() => Promise.reject(new Error("the process ended before it had started a server")))
  ]) as [string]
  const { folder, port } = JSON.parse(line) as { readonly folder: string; readonly port: number }
  assert.isTrue(await canConnect(port))
  assert.isTrue(existsSync(folder))
  child.kill("SIGKILL")
  await removed(folder)
  // The signal has been sent by now; the system closes the port when it has dealt with it.
  while (await canConnect(port));
})
