// Package bench measures onlink next to real peers: BIRD 2, the reference CNI
// plugins, the bare kernel interfaces. Every figure comes from rounds in which
// onlink and its peer take turns on the same machine, so that the ratio means
// something where the absolute number does not. docs/performance.md says what
// each figure is.
//
// Everything runs in network namespaces of its own, which go with the process.
// It needs root.
package bench
