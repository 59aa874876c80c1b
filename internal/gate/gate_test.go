package gate

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// answer is a service with a unary method and a stream.
type answer struct {
	healthv1.UnimplementedHealthServer
}

func (answer) Check(_ context.Context, r *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	if r.GetService() == "" {
		return nil, status.Error(codes.NotFound, "no such service")
	}
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}, nil
}

func (answer) Watch(_ *healthv1.HealthCheckRequest, s grpc.ServerStreamingServer[healthv1.HealthCheckResponse]) error {
	return s.Send(&healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING})
}

// serve serves the service, and calls admit before each call.
func serve(t *testing.T, admit func(method string) error) *grpc.ClientConn {
	t.Helper()
	lis, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		if err := admit(info.FullMethod); err != nil {
			return err
		}
		return next(srv, s)
	}))
	healthv1.RegisterHealthServer(Registrar(srv), answer{})
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(lis) }()
	conn, err := grpc.NewClient("unix:"+lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close() //nolint:errcheck // a test's client
		srv.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return conn
}

// TestRegistrar: an ordinary client sees no difference: answers, errors, streams.
func TestRegistrar(t *testing.T) {
	c := healthv1.NewHealthClient(serve(t, func(string) error { return nil }))
	rep, err := c.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "x"})
	if err != nil || rep.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", rep, err)
	}
	if _, err := c.Check(t.Context(), &healthv1.HealthCheckRequest{}); status.Code(err) != codes.NotFound || status.Convert(err).Message() != "no such service" {
		t.Errorf("%v", err)
	}
	if _, err := c.List(t.Context(), &healthv1.HealthListRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("%v", err)
	}
	stream, err := c.Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := stream.Recv(); err != nil || rep.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", rep, err)
	}
}

// TestUnread: a call is denied though its message has not come, and never comes.
func TestUnread(t *testing.T) {
	methods := make(chan string, 1)
	conn := serve(t, func(method string) error {
		methods <- method
		return status.Error(codes.PermissionDenied, "no")
	})
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, healthv1.Health_Check_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&healthv1.HealthCheckResponse{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("%v", err)
	}
	if m := <-methods; m != healthv1.Health_Check_FullMethodName {
		t.Errorf("asked about %s", m)
	}
}

// TestNoMessage: a client that ends its call without a message is answered an error.
func TestNoMessage(t *testing.T) {
	conn := serve(t, func(string) error { return nil })
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, healthv1.Health_Check_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&healthv1.HealthCheckResponse{}); status.Code(err) != codes.Internal {
		t.Errorf("%v", err)
	}
}
