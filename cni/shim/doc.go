// Package shim is the whole CNI plugin program: it reads the CNI_*
// environment and the network configuration, passes both to the agent over
// gRPC on a unix socket, prints the answer and returns the exit code. It
// decides nothing: versions, results and error codes come from the agent. Only
// VERSION, and an agent which cannot be reached, are answered here.
//
// A node starts this program for every pod event, so its start-up is the
// largest part of a plugin's cost. The package therefore implements HTTP/2
// (RFC 9113), HPACK (RFC 7541), gRPC and the two protobuf messages itself
// over plain system calls, and imports none of net, os, time, fmt,
// encoding/json, grpc and protobuf; a test pins the list of allowed imports.
//
// One call, one connection, one goroutine: nothing here is for concurrent use.
package shim
