/** Removes what an earlier build left. */
import { rm } from "node:fs/promises"
import * as Path from "node:path"
import { main, root } from "./lib/project.js"

main(() => rm(Path.join(root, "dist"), { recursive: true, force: true }))
