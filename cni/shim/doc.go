// Package shim is the CNI plugin binary's whole behaviour: it reads the CNI_*
// environment and the network configuration, passes both to the agent over
// gRPC on a unix socket, prints the answer and returns the exit code. It
// decides nothing: versions, results and error codes come from the agent. Only
// VERSION, and an agent which cannot be reached, are answered here.
//
// A node starts this program for every pod event, so its start-up is the
// largest part of what a plugin costs. The package therefore speaks HTTP/2
// (RFC 9113), HPACK (RFC 7541), gRPC and the two protobuf messages by itself
// over plain system calls, and imports none of net, os, time, fmt,
// encoding/json, grpc and protobuf; a test pins the list of what it may import.
//
// One call, one connection, one goroutine: nothing here is for concurrent use.
package shim
