/**
 * Where a version of etcd differs from what the suite states, which is what etcd 3.5 does.
 */
export const deviationsOf34 = {} as const

export type Deviation = keyof typeof deviationsOf34
