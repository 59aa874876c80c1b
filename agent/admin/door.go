package admin

import (
	"context"
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"onlink/internal/gate"
	"onlink/internal/identity"
	onlinkv1 "onlink/proto/v1"
)

// Bounds of one socket, beside those of its connections, which the listener has.
// docs/security.md has the memory that they come to.
const (
	maxMessage  = 4<<20 + 64<<10 // bytes: the largest configuration file and its envelope
	maxHeaders  = 64 << 10       // bytes of a call's headers
	window      = 64 << 10       // bytes of a message that arrive before it is read
	maxStreams  = 16             // calls at once on one connection
	handshake   = 10 * time.Second
	maxIdle     = 10 * time.Minute             // then a connection without a call is closed
	maxAge      = time.Hour                    // then one over TCP is closed after its calls: a new one shows the present certificate
	ageGrace    = maxDrainWait + 5*time.Minute // for those calls
	pingEvery   = 2 * time.Minute
	pingTimeout = 20 * time.Second
	// patience is how long a message may wait for its reader.
	patience = 30 * time.Second
)

// Door is one socket of the API: who may come in, and with which roles.
type Door struct {
	// Operators and Viewers are the groups of a unix socket by ID, which are given
	// those roles. Where Viewers is nil the mode of the socket decides: whoever can
	// open it is an operator.
	Operators, Viewers *uint32
	// TLS is that of a TCP socket; nil: the socket is a unix socket.
	TLS *tls.Config
	// Roles has the identities of certificates that have none of their own.
	Roles identity.Map
	// Reflection serves the descriptors of the API.
	Reflection bool
}

// door is a Door of a server with its calls under way.
type door struct {
	Door

	server *Server
	calls  *bound
	heavy  chan struct{} // full: no large answer may be made now
}

// Open returns the server of one socket. It serves the API, the health of each
// service and, on request, reflection, to callers with a role.
func (s *Server) Open(d Door) *grpc.Server {
	in := &door{Door: d, server: s, calls: newBound("calls", maxCalls, maxCallsEach), heavy: make(chan struct{}, maxHeavy)}
	params := keepalive.ServerParameters{MaxConnectionIdle: maxIdle, Time: pingEvery, Timeout: pingTimeout}
	creds := credentials.TransportCredentials(peerCreds{})
	if d.TLS != nil {
		creds = credentials.NewTLS(d.TLS)
		params.MaxConnectionAge, params.MaxConnectionAgeGrace = maxAge, ageGrace
	}
	srv := grpc.NewServer(
		grpc.Creds(creds), grpc.StreamInterceptor(in.intercept), grpc.KeepaliveParams(params),
		grpc.ConnectionTimeout(handshake), grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxHeaderListSize(maxHeaders),
		grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(window),
	)
	services := gate.Registrar(srv)
	onlinkv1.RegisterAdminServer(services, s)
	onlinkv1.RegisterRuntimeServer(services, process{s: s})
	onlinkv1.RegisterNodesServer(services, nodes{s: s})
	healthv1.RegisterHealthServer(services, s.health)
	if d.Reflection {
		reflection.Register(reflected{services, srv})
	}
	return srv
}

// reflected is what reflection registers with, and what it shows.
type reflected struct {
	grpc.ServiceRegistrar
	reflection.ServiceInfoProvider
}

// newHealth returns the health of the API's services: they serve as long as the
// process answers. /readyz says whether the node does.
func newHealth() *health.Server {
	h := health.NewServer()
	for _, name := range []string{onlinkv1.Admin_ServiceDesc.ServiceName, onlinkv1.Runtime_ServiceDesc.ServiceName, onlinkv1.Nodes_ServiceDesc.ServiceName, healthv1.Health_ServiceDesc.ServiceName} {
		h.SetServingStatus(name, healthv1.HealthCheckResponse_SERVING)
	}
	return h
}

// intercept is a [grpc.StreamServerInterceptor] that admits calls, before their
// messages are read.
func (d *door) intercept(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	v := d.who(s.Context())
	ctx := context.WithValue(s.Context(), visitorKey{}, v)
	if err := v.may(info.FullMethod); err != nil {
		return d.refuse(ctx, info.FullMethod, err)
	}
	end, err := d.calls.begin(v)
	if err != nil {
		return err
	}
	defer end()
	in := &admitted{ServerStream: s, ctx: ctx}
	r := rights[info.FullMethod]
	if r.heavy {
		select {
		case d.heavy <- struct{}{}:
			defer func() { <-d.heavy }()
		case <-s.Context().Done():
			return status.FromContextError(s.Context().Err()).Err()
		}
	}
	if r.changes != nil {
		in.check = func(req any) error {
			if !r.changes(req) {
				return nil
			}
			return d.refuse(ctx, info.FullMethod, v.mayChange(info.FullMethod))
		}
	}
	return next(srv, in)
}

// refuse notes a denial in the audit. It returns err.
func (d *door) refuse(ctx context.Context, method string, err error) error {
	if err != nil {
		d.server.Audit.Denied(ctx, shortMethod(method), status.Convert(err).Message())
	}
	return err
}

// admitted is the stream of an admitted call.
type admitted struct {
	grpc.ServerStream

	ctx   context.Context //nolint:containedctx // a stream has one
	check func(req any) error
}

// Context implements grpc.ServerStream.
func (s *admitted) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream.
func (s *admitted) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil && s.check != nil {
		err = s.check(m)
	}
	return err
}

// SendMsg implements grpc.ServerStream. A reader that does not take what it was sent
// before is dropped: else it would hold a snapshot, a place among the watchers or a
// transaction of the database for as long as it likes.
func (s *admitted) SendMsg(m any) error {
	sent := make(chan error, 1)
	go func() { sent <- s.ServerStream.SendMsg(m) }()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case err := <-sent:
		return err
	case <-late.C: // the end of the call ends the waiting message too
		return status.Errorf(codes.ResourceExhausted, "the reader took no message for %v and is dropped: read faster, or ask for less", patience)
	}
}
