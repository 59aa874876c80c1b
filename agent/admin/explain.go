package admin

import (
	"context"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/agent/explain"
	onlinkv1 "onlink/proto/v1"
)

// Explain implements onlinkv1.AdminServer.
func (s *Server) Explain(ctx context.Context, r *onlinkv1.ExplainRequest) (*onlinkv1.ExplainReply, error) {
	var q explain.Question
	var err error
	if q.To, err = netip.ParseAddr(r.GetAddress()); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "address: %v", err)
	}
	if r.GetFrom() != "" {
		if q.From, err = netip.ParseAddr(r.GetFrom()); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "from: %v", err)
		}
		if q.From.Unmap().Is4() != q.To.Unmap().Is4() {
			return nil, status.Errorf(codes.InvalidArgument, "from: %s and %s are of different families; use two addresses of IPv4 or two of IPv6", q.From, q.To)
		}
	}
	got, err := explain.Explain(ctx, s.World, q)
	if err != nil {
		return nil, err
	}
	return explanationToWire(&got), nil
}

func explanationToWire(r *explain.Result) *onlinkv1.ExplainReply {
	w := &onlinkv1.ExplainReply{Address: r.To.String(), Reachable: r.Reachable, Verdict: r.Verdict, Cause: string(r.Cause), Fix: r.Fix}
	if r.From.IsValid() {
		w.From = r.From.String()
	}
	w.Node = r.Node
	for i := range r.Steps {
		w.Steps = append(w.Steps, stepToWire(&r.Steps[i]))
	}
	for i := range r.Others {
		w.Others = append(w.Others, stepToWire(&r.Others[i]))
	}
	return w
}

func stepToWire(s *explain.Step) *onlinkv1.ExplainStep {
	return &onlinkv1.ExplainStep{
		Name: s.Name, Ok: s.State != explain.Broken, Detail: s.Detail, State: s.State.String(), Cause: string(s.Cause), Fix: s.Fix, Node: s.Node,
	}
}
