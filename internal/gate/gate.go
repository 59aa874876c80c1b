// Package gate lets a gRPC server decide on a call before it reads the call's
// message. gRPC hands a unary method its decoded message, and runs interceptors
// after that: a caller without any right could make the server hold as many messages
// of the largest size as it likes. A stream's handler runs first and reads then, so
// [Registrar] registers unary methods as streams of one message each way. The wire is
// the same.
package gate

import (
	"slices"

	"google.golang.org/grpc"
)

// Registrar returns a registrar for services of a server, to which all their methods
// are streams: its stream interceptor sees each call, with nothing of it read beyond
// the window of HTTP/2.
func Registrar(to grpc.ServiceRegistrar) grpc.ServiceRegistrar { return registrar{to} }

type registrar struct{ to grpc.ServiceRegistrar }

// RegisterService implements grpc.ServiceRegistrar.
func (r registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	streams := slices.Clone(desc.Streams)
	for _, m := range desc.Methods {
		streams = append(streams, grpc.StreamDesc{StreamName: m.MethodName, Handler: late(m.Handler)})
	}
	r.to.RegisterService(&grpc.ServiceDesc{
		ServiceName: desc.ServiceName, HandlerType: desc.HandlerType, Streams: streams, Metadata: desc.Metadata,
	}, impl)
}

// late is a unary method as the handler of a stream.
func late(method grpc.MethodHandler) grpc.StreamHandler {
	return func(srv any, s grpc.ServerStream) error {
		reply, err := method(srv, s.Context(), s.RecvMsg, nil)
		if err != nil {
			return err
		}
		return s.SendMsg(reply)
	}
}
