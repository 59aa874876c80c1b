package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Result is the chain of one address.
type Result struct {
	Question

	Steps     []Step
	Reachable bool
	Cause     Cause  // the one cause; "": none
	Verdict   string // the result: how it works, or what breaks it
	Fix       string // what to do about Cause
	Node      string // the other node that found Cause; "": this one
	Others    []Step // the other steps that are not OK, the likelier first
}

// result ends the explanation: of all that is not right one step is the cause.
//
// An answer of the very path outweighs every table: what is broken there is no
// more than suspect. Without an answer the first broken link is the cause, then
// the first suspect one, then the segment in which the probe is lost.
func (t *trail) result() Result {
	r := Result{Question: t.Question, Steps: t.steps}
	if t.probed {
		for i := range r.Steps {
			if !r.Steps[i].Sure {
				r.Steps[i].State = min(r.Steps[i].State, Suspect)
			}
		}
	}
	cause := causeOf(r.Steps)
	for i := range r.Steps {
		// That no path arrives follows from what keeps it away.
		follows := cause >= 0 && r.Steps[i].Cause == PathAbsent && r.Steps[cause].weight() > r.Steps[i].weight()
		if i != cause && r.Steps[i].State != OK && !follows {
			r.Others = append(r.Others, r.Steps[i])
		}
	}
	slices.SortStableFunc(r.Others, func(a, b Step) int { return cmp.Compare(b.State, a.State) })
	if cause < 0 {
		r.Reachable, r.Verdict = true, t.good
		return r
	}
	s := r.Steps[cause]
	r.Cause, r.Verdict, r.Fix, r.Node = s.Cause, s.Detail, s.Fix, s.Node
	return r
}

// causeOf returns the index of the step that is the cause, which it marks as broken;
// -1: there is none.
func causeOf(steps []Step) int {
	cause := -1
	for i := range steps {
		s := &steps[i]
		if s.State == Broken && (cause < 0 || s.weight() > steps[cause].weight()) {
			cause = i
		}
	}
	if cause >= 0 && steps[cause].weight() < 2 {
		absent := !steps[cause].Cause.symptom()
		if i := slices.IndexFunc(steps, func(s Step) bool {
			return s.State == Suspect && !s.Cause.symptom() && (!absent || s.Cause == AnnounceRejected)
		}); i >= 0 {
			steps[i].State = Broken
			cause = i
		}
	}
	return cause
}

// weight orders broken steps: of two causes the first one counts, a path that is
// missing or a session that is down when nothing says why, and a symptom only when
// there is no cause.
func (s *Step) weight() int {
	switch {
	case s.Cause.symptom():
		return 0
	case s.Cause == PathAbsent:
		return 1
	case s.Cause == SessionDown:
		return 2
	}
	return 3
}

// both joins the explanations of the two directions.
func both(there, back Result) Result {
	mark := func(list []Step, from, to netip.Addr) []Step {
		out := slices.Clone(list)
		for i := range out {
			out[i].Detail = fmt.Sprintf("%s -> %s: %s", from, to, out[i].Detail)
		}
		return out
	}
	out := there
	out.Steps = append(mark(there.Steps, there.From, there.To), mark(back.Steps, back.From, back.To)...)
	out.Others = append(mark(there.Others, there.From, there.To), mark(back.Others, back.From, back.To)...)
	switch {
	case there.Reachable && back.Reachable:
		out.Verdict = fmt.Sprintf("%s; back: %s", there.Verdict, back.Verdict)
	case there.Reachable || there.Cause.symptom() && !back.Reachable && !back.Cause.symptom():
		// The answers are lost: that the probe has none is the symptom of it.
		out.Reachable, out.Cause, out.Fix, out.Node = false, back.Cause, back.Fix, back.Node
		out.Verdict = fmt.Sprintf("on the way back, from %s to %s: %s", back.From, back.To, back.Verdict)
	}
	return out
}
