/**
 * `etcd:///service` for grpc-js. Its table of resolvers is one for the whole process, so that what stands there is the same
 * for all: it finds the instances through an option of the channel, and channels of different registries do not mix.
 */
import * as grpc from "@grpc/grpc-js"
import type { Construct } from "../socketsOpening.js"
import * as Endpoints from "./endpoints.js"
import type { Known, View } from "./view.js"

const { Resolver: _, ...experimental } = { ...grpc.experimental, Resolver: undefined }

type Listener = grpc.experimental.ResolverListener
type Make = (listener: Listener) => grpc.experimental.Resolver

export const scheme = "etcd"

/**
 * The channel's option that leads to its resolver. Under this prefix options do not tell one connection from another. A
 * function, as options are printed as JSON when grpc-js traces.
 */
export const option = `${experimental.SUBCHANNEL_ARGS_EXCLUDE_KEY_PREFIX}.effect-coord`
