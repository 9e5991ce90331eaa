/** A tracer that keeps all that spans are given, for tests that look for what must not be in them. */
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Tracer from "effect/Tracer"

const pretty = (exit: Exit.Exit<unknown, unknown>): unknown =>
  Exit.isFailure(exit) ? Cause.pretty(exit.cause, { renderErrorCause: true }) : exit.value

/** Their ends and events are among the attributes of the spans, and are told as they come. */
export const recordingTracer = (told: (seen: ReadonlyArray<unknown>) => void = () => {}): {
  readonly spans: ReadonlyArray<Tracer.Span>
  readonly tracer: Tracer.Tracer
} => {
  const spans: Array<Tracer.Span> = []
  const tracer = Tracer.make({
    span: (name, parent, context, links, startTime, kind, options) => {
      const attributes = new Map<string, unknown>(Object.entries(options?.attributes ?? {}))
      const span: Tracer.Span = {
        _tag: "Span",
        spanId: String(spans.length),
        traceId: "trace",
        name,
        parent,
        context,
        status: { _tag: "Started", startTime },
        attributes,
        links,
        sampled: true,
        kind,
        end: (_, exit) => {
          attributes.set("exit", pretty(exit))
          told([name, attributes])
        },
        attribute: (key, value) => attributes.set(key, value),
        event: (event, _, more) => {
          attributes.set(event, more)
          told([event, more])
        },
        addLinks: () => undefined
      }
      spans.push(span)
      return span
    },
    context: (execution) => execution()
  })
  return { spans, tracer }
}
