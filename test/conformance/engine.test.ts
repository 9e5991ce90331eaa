import { engine } from "./Backend.js"
import { conformance } from "./suite.js"

conformance("the embedded engine", engine, "test")
