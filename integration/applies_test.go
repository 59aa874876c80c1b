package integration

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/interop"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestApplies has a long form, and repeats one with its seed:
//
//	go test ./integration -run 'TestApplies$' -args -applies.changes=1000 -applies.seed=7
var (
	appliesChanges = flag.Int("applies.changes", 80, "random changes of TestApplies")
	appliesSeed    = flag.Uint64("applies.seed", 0, "seed of TestApplies; 0: any")
)

// kinds are those of changes, and how many of twenty are of each.
var kinds = map[string]int{"good": 9, "wrong": 6, "held": 2, "asked": 1, "operated": 2}

// TestApplies makes random changes of a running agent in every way there is: the file with
// SIGHUP, `config reload` and `reload: watch`, and the API, good ones, wrong ones, such
// that are held, and such that only ask. After each the agent has the last good
// configuration and no other, sessions that the change does not name are those of before,
// and never is the node cut off.
func TestApplies(t *testing.T) {
	a := startApplies(t)
	a.settle()
	before := a.usage()
	for i := range *appliesChanges {
		a.change(i)
		if t.Failed() {
			t.Fatalf("after change %d; repeat it with -args -applies.seed=%d -applies.changes=%d", i, a.seed, i+1)
		}
	}
	last := a.plan
	a.settle()
	a.bounded(before)
	labtest.Lossless(a.ctx, t, a.flow)
	t.Logf("%d changes: %v", *appliesChanges, a.done)
	must(t, a.n.Stop()) // what was taken last also starts an agent
	a.plan, a.disabled = last, false
	labtest.StartNode(a.ctx, t, a.n)
	must(t, lab.Eventually(a.ctx, labtest.Patience, "what the last plan has", a.has))
}

// applies is the state of TestApplies.
type applies struct {
	t    *testing.T
	ctx  context.Context
	seed uint64
	rnd  *rand.Rand

	n, other *lab.Node
	// tor stays as it is; victim has a session that changes may reset.
	tor, victim        *interop.Router
	torSetup, victimIs interop.Setup
	block, otherBlock  netip.Prefix
	flow               *lab.PingFlow // between pods of both nodes

	plan     plan           // that the agent should have
	text     []byte         // of the file in force
	texts    int            // written so far: each has another number
	before   views          // of the sessions that no change touches
	deck     []string       // kinds of the next changes
	done     map[string]int // changes, by kind
	drained  bool           // the node drains
	disabled bool           // the victim's session
}

// startApplies starts two nodes with a session to each other; the first has two routers
// beside it.
func startApplies(t *testing.T) *applies {
	t.Helper()
	spec := labtest.Mesh("applies", 2)
	spec.ToRsPerRack = 2
	ctx, l := labtest.Build(t, spec)
	if *appliesChanges > 500 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), 30*time.Minute)
		t.Cleanup(cancel)
	}
	a := &applies{t: t, ctx: ctx, seed: *appliesSeed, n: l.Node("r1n1"), other: l.Node("r1n2"), done: map[string]int{}, plan: newPlan()}
	if a.seed == 0 {
		a.seed = rand.Uint64()
	}
	t.Logf("seed %d", a.seed)
	a.rnd = rand.New(rand.NewPCG(a.seed, 0))
	tors := l.ToRs()
	a.torSetup, a.victimIs = labtest.SetupOf(tors[0], a.n), labtest.SetupOf(tors[1], a.n)
	a.torSetup.Announce = []netip.Prefix{netip.MustParsePrefix("198.18.0.0/24")}
	a.tor = labtest.StartRouter(ctx, t, l, interop.BIRD, tors[0], a.torSetup)
	a.victim = labtest.StartRouter(ctx, t, l, interop.BIRD, tors[1], a.victimIs)
	a.n.Edit = func(c *conf.Config) { *c = *a.plan.config(a) }
	a.other.Edit = func(c *conf.Config) { c.BGP = conf.BGP{ASN: lab.NodeASN, Peers: []*conf.Peer{a.n.Peer()}} }
	labtest.ReachEverybody(ctx, t, l)
	a.block, a.otherBlock = labtest.BlockOf(ctx, t, a.n), labtest.BlockOf(ctx, t, a.other)
	a.write(a.textOf(a.plan))
	a.reload()
	a.take(a.plan)
	must(t, lab.Eventually(ctx, labtest.Patience, "the sessions and their routes", a.has))
	a.before = a.view()
	from, to := labtest.PodOf(l, a.other.Name), labtest.PodOf(l, a.n.Name)
	var err error
	a.flow, err = lab.StartPingFlow(from.NS, to.NS, to.Addr(), 200)
	must(t, err)
	must(t, a.flow.WaitFor(ctx, 10))
	return a
}

// change makes one random change and checks what became of it.
func (a *applies) change(i int) {
	a.t.Helper()
	was := a.flow.Report()
	kind := a.next()
	switch kind {
	case "good":
		a.good()
	case "wrong":
		a.wrong()
	case "held":
		a.hold()
	case "asked":
		a.ask()
	default:
		a.operate()
	}
	a.done[kind]++
	a.check(kind)
	if i%10 == 9 && !a.t.Failed() {
		a.passes()
	}
	if now := a.flow.Report(); now.Sent-now.Lost < was.Sent {
		a.t.Logf("change %d (%s): %d datagrams sent before it have no answer yet", i, kind, was.Sent-(now.Sent-now.Lost))
	}
}

// next draws the kind of a change: of twenty changes so many are of each.
func (a *applies) next() string {
	if len(a.deck) == 0 {
		for kind, n := range kinds {
			a.deck = append(a.deck, slices.Repeat([]string{kind}, n)...)
		}
		slices.Sort(a.deck) // the same order for one seed
		a.rnd.Shuffle(len(a.deck), func(i, j int) { a.deck[i], a.deck[j] = a.deck[j], a.deck[i] })
	}
	kind := a.deck[0]
	a.deck = a.deck[1:]
	return kind
}

// good makes a change that the agent takes.
func (a *applies) good() {
	a.t.Helper()
	next := a.plan.clone()
	next.mutate(a.rnd)
	switch way := a.rnd.IntN(16); {
	case way < 5:
		a.write(a.textOf(next))
		a.hangUp()
	case way < 9:
		a.write(a.textOf(next))
		a.reload()
	case way < 10 && a.plan.watch:
		a.write(a.textOf(next))
	case way < 12:
		a.apply(next)
	case way < 13:
		a.ownedByOther(next)
	case way < 14:
		a.linked(next)
	default:
		a.send(a.textOf(next), nil)
	}
	a.take(next)
}

// take waits until the agent has a plan, with the text that was written for it.
func (a *applies) take(next plan) {
	a.t.Helper()
	text, err := a.file()
	must(a.t, err)
	must(a.t, lab.Eventually(a.ctx, labtest.Patience, "the file in force", func() error {
		st, err := a.n.Status(a.ctx)
		if err == nil && st.GetConfigDigest() != digestOf(text) {
			err = fmt.Errorf("digest %s in force, the file has %s; problems %q", st.GetConfigDigest(), digestOf(text), st.GetProblems())
		}
		return err
	}))
	a.plan, a.text = next, text
}

// settle returns to the first plan, one part after the other, so that nothing is held.
func (a *applies) settle() {
	a.t.Helper()
	first := newPlan()
	for {
		next, last := a.plan.nearer(first)
		if last {
			break
		}
		a.send(a.textOf(next), nil)
		a.take(next)
	}
	a.check("settled")
}
