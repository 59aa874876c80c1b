package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"onlink/agent/explain"
	"onlink/internal/tlsfiles"
	onlinkv1 "onlink/proto/v1"
)

// Asker asks the agents of other nodes over this API, at the port of its own: it
// implements [explain.Agents]. It makes a connection for each question.
type Asker struct {
	Port func() netip.AddrPort   // api.admin.tcp in force
	TLS  func() *tlsfiles.Keeper // of api.admin.tls; nil: there is none
}

// Bounds of a question.
const (
	askTime     = time.Second
	maxFindings = 256 << 10 // bytes
)

// Ask implements explain.Agents.
func (a Asker) Ask(ctx context.Context, node []netip.Addr, q explain.Inquiry) (explain.Findings, error) {
	own := a.Port()
	files := a.TLS()
	if !own.IsValid() || files == nil {
		return explain.Findings{}, explain.ErrAgentsOff
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	at := netip.AddrPortFrom(node[0], own.Port())
	if i := slices.IndexFunc(node, func(n netip.Addr) bool { return n.Is4() == own.Addr().Unmap().Is4() }); i >= 0 && !own.Addr().IsUnspecified() {
		at = netip.AddrPortFrom(node[i], own.Port())
	}
	c := files.Client()
	c.ServerName, c.NextProtos = at.Addr().WithZone("").String(), []string{"h2"}
	conn, err := tlsfiles.Dial(ctx, at.String(), c)
	if err != nil {
		return explain.Findings{}, unanswered(at, err)
	}
	defer conn.Close()
	return over(ctx, conn, at, q)
}

// over asks over a connection.
func over(ctx context.Context, conn net.Conn, at netip.AddrPort, q explain.Inquiry) (explain.Findings, error) {
	once := make(chan net.Conn, 1)
	once <- conn
	client, err := grpc.NewClient("passthrough:///"+at.String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxFindings)),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case c := <-once:
				return c, nil
			default:
				return nil, net.ErrClosed
			}
		}))
	if err != nil {
		return explain.Findings{}, err
	}
	defer client.Close() //nolint:errcheck // nothing is written to it any more
	rep, err := onlinkv1.NewNodesClient(client).ExplainHere(ctx, inquiryToWire(&q))
	switch status.Code(err) { //nolint:exhaustive // the others have a text
	case codes.OK:
		return findingsOf(rep)
	case codes.Unimplemented:
		return explain.Findings{}, fmt.Errorf("%s: it is of a version that does not answer this question", at)
	case codes.DeadlineExceeded:
		return explain.Findings{}, fmt.Errorf("%s: it took the question and did not answer within %v", at, askTime)
	}
	return explain.Findings{}, fmt.Errorf("%s: %s", at, status.Convert(err).Message())
}

// unanswered returns why there is no connection: no agent answers, or the two do not
// accept each other.
func unanswered(at netip.AddrPort, err error) error {
	verify, op := (*tls.CertificateVerificationError)(nil), (*net.OpError)(nil)
	switch {
	case errors.As(err, &verify):
		return fmt.Errorf("%s: its certificate is not accepted: %w (docs/security.md; it must have the address: onlinkctl pki issue --ip)", at, verify.Err)
	case errors.As(err, &op) && op.Op == "remote error": // an alert
		return fmt.Errorf("%s: it rejects the certificate of api.admin.tls: %w", at, op.Err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return &explain.SilentError{At: at, Refused: true, Err: syscall.ECONNREFUSED}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return &explain.SilentError{At: at, Err: fmt.Errorf("nothing within %v", askTime)}
	}
	root := err
	for next := errors.Unwrap(root); next != nil; next = errors.Unwrap(root) {
		root = next
	}
	return &explain.SilentError{At: at, Err: root}
}
