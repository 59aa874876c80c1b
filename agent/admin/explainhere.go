package admin

import (
	"context"
	"fmt"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/agent/explain"
	onlinkv1 "onlink/proto/v1"
)

// Bounds of a question: of each list of addresses, and of the tunnel's format in bytes.
const (
	maxAddresses = 128
	maxFormat    = 128
)

// ExplainHere implements onlinkv1.NodesServer.
func (n nodes) ExplainHere(ctx context.Context, r *onlinkv1.ExplainHereRequest) (*onlinkv1.ExplainHereReply, error) {
	q, err := inquiryOf(r)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	f, err := explain.Answer(ctx, n.s.World, q)
	if err != nil && len(f.Steps) == 0 {
		return nil, err
	}
	w := &onlinkv1.ExplainHereReply{Node: f.Node, Owner: f.Owner, OwnerAddresses: texts(f.OwnerAddresses), OwnerUp: f.OwnerUp}
	if f.Block.IsValid() {
		w.Block = f.Block.String()
	}
	for i := range f.Steps {
		w.Steps = append(w.Steps, stepToWire(&f.Steps[i]))
	}
	for i := range f.Back {
		w.Back = append(w.Back, stepToWire(&f.Back[i]))
	}
	return w, nil
}

// inquiryOf reads a question.
func inquiryOf(r *onlinkv1.ExplainHereRequest) (explain.Inquiry, error) {
	q := explain.Inquiry{Node: r.GetNode(), Owner: r.GetOwner(), Format: r.GetFormat()}
	for _, f := range []struct {
		name, text string
		needed     bool
		to         *netip.Addr
	}{{"address", r.GetAddress(), true, &q.To}, {"from", r.GetFrom(), false, &q.From}, {"tunnel", r.GetTunnel(), false, &q.Tunnel}} {
		if f.text == "" && !f.needed {
			continue
		}
		a, err := netip.ParseAddr(f.text)
		if err != nil {
			return q, fmt.Errorf("%s: %w", f.name, err)
		}
		*f.to = a
	}
	if q.From.IsValid() && q.From.Unmap().Is4() != q.To.Unmap().Is4() {
		return q, fmt.Errorf("from: %s and %s are of different families; use two addresses of IPv4 or two of IPv6", q.From, q.To)
	}
	if len(q.Format) > maxFormat {
		return q, fmt.Errorf("format: %d bytes; use at most %d", len(q.Format), maxFormat)
	}
	for _, f := range []struct {
		name string
		list []string
		to   *[]netip.Addr
	}{{"addresses", r.GetAddresses(), &q.Addresses}, {"peers", r.GetPeers(), &q.Peers}, {"owner_addresses", r.GetOwnerAddresses(), &q.OwnerAddresses}} {
		var err error
		if *f.to, err = addressesOf(f.list); err != nil {
			return q, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return q, nil
}

func inquiryToWire(q *explain.Inquiry) *onlinkv1.ExplainHereRequest {
	w := &onlinkv1.ExplainHereRequest{
		Address: q.To.String(), Node: q.Node, Addresses: texts(q.Addresses), Peers: texts(q.Peers), Owner: q.Owner, OwnerAddresses: texts(q.OwnerAddresses),
	}
	if q.From.IsValid() {
		w.From = q.From.String()
	}
	if q.Tunnel.IsValid() {
		w.Tunnel, w.Format = q.Tunnel.String(), q.Format
	}
	return w
}

// findingsOf reads an answer.
func findingsOf(r *onlinkv1.ExplainHereReply) (explain.Findings, error) {
	f := explain.Findings{Node: r.GetNode(), Owner: r.GetOwner(), OwnerUp: r.GetOwnerUp()}
	var err error
	if f.OwnerAddresses, err = addressesOf(r.GetOwnerAddresses()); err != nil {
		return f, fmt.Errorf("owner_addresses: %w", err)
	}
	if r.GetBlock() != "" {
		if f.Block, err = netip.ParsePrefix(r.GetBlock()); err != nil {
			return f, fmt.Errorf("block: %w", err)
		}
	}
	f.Steps, f.Back = stepsOf(r.GetSteps()), stepsOf(r.GetBack())
	return f, nil
}

func stepsOf(list []*onlinkv1.ExplainStep) []explain.Step {
	states := map[string]explain.State{}
	for _, s := range []explain.State{explain.OK, explain.Suspect, explain.Broken} {
		states[s.String()] = s
	}
	out := make([]explain.Step, 0, len(list))
	for _, s := range list {
		out = append(out, explain.Step{Name: s.GetName(), State: states[s.GetState()], Detail: s.GetDetail(), Cause: explain.Cause(s.GetCause()), Fix: s.GetFix()})
	}
	return out
}

func addressesOf(list []string) ([]netip.Addr, error) {
	if len(list) > maxAddresses {
		return nil, fmt.Errorf("%d addresses; use at most %d", len(list), maxAddresses)
	}
	out := make([]netip.Addr, 0, len(list))
	for _, text := range list {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

func texts(list []netip.Addr) []string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return out
}
