package glass

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"

	"onlink/agent/explain"
)

// askHeader is what the page sends with a question. A page of another site cannot send
// it without permission, so it cannot make the agent send probes.
const askHeader = "Onlink-Glass"

// explanationView is the chain of an address.
type explanationView struct {
	From      string     `json:"from,omitempty"`
	To        string     `json:"to"`
	Reachable bool       `json:"reachable"`
	Verdict   string     `json:"verdict"`
	Cause     string     `json:"cause,omitempty"`
	Fix       string     `json:"fix,omitempty"`
	Node      string     `json:"node,omitempty"` // the other node that found the cause
	Steps     []stepView `json:"steps"`
}

// stepView is one link of it.
type stepView struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Detail string `json:"detail"`
	Cause  string `json:"cause,omitempty"`
	Fix    string `json:"fix,omitempty"`
	Node   string `json:"node,omitempty"`
}

// explain explains an address, or the two directions between two.
func (g *glass) explain(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(askHeader) == "" {
		refuse(w, http.StatusForbidden, "send the header "+askHeader+": 1 with the question, as the page does")
		return
	}
	q, err := questionOf(r.URL.Query().Get("from"), r.URL.Query().Get("to"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	end, ok := begin(w, r, g.explains, "explanations")
	if !ok {
		return
	}
	defer end()
	if !g.probing.Allow() {
		refuse(w, http.StatusTooManyRequests, "too many explanations in a short time, each of which sends packets: try again in some seconds")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), explainTime)
	defer cancel()
	g.Log.Debug("explains an address", "to", q.To, "from", q.From, "reader", reader(r))
	got, err := g.Explain(ctx, q)
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, fmt.Sprintf("the explanation failed: %v", err))
		return
	}
	answer(w, http.StatusOK, explanationOf(&got))
}

func questionOf(from, to string) (q explain.Question, err error) {
	if q.To, err = netip.ParseAddr(to); err != nil {
		return q, fmt.Errorf("to: %q is no IP address", short(to))
	}
	if from == "" {
		return q, nil
	}
	if q.From, err = netip.ParseAddr(from); err != nil {
		return q, fmt.Errorf("from: %q is no IP address", short(from))
	}
	if q.From.Unmap().Is4() != q.To.Unmap().Is4() {
		return q, fmt.Errorf("from: %s and %s are of different families; use two addresses of IPv4 or two of IPv6", q.From, q.To)
	}
	return q, nil
}

func explanationOf(r *explain.Result) *explanationView {
	v := &explanationView{
		From: text(r.From), To: r.To.String(), Reachable: r.Reachable, Verdict: r.Verdict, Cause: string(r.Cause), Fix: r.Fix, Node: r.Node, Steps: []stepView{},
	}
	for i := range r.Steps {
		s := &r.Steps[i]
		v.Steps = append(v.Steps, stepView{Name: s.Name, State: s.State.String(), Detail: s.Detail, Cause: string(s.Cause), Fix: s.Fix, Node: s.Node})
	}
	return v
}
