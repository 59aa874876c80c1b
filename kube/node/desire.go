package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"onlink/kube/api/v1alpha1"
	"onlink/kube/render"
	onlinkv1 "onlink/proto/v1"
)

const (
	// pace is the shortest time between two renderings.
	pace = 200 * time.Millisecond
	// beat is how often the loop turns when nothing happens.
	beat = 10 * time.Second
	// secretWait is how long the first rendering waits for Secrets: one that cannot
	// be read must not keep the others' objects from the agent.
	secretWait = 5 * time.Second
	// linger is how often a session of a deleted Node is looked at: the first look after
	// its end removes it.
	linger = 5 * time.Second
	// firstRetry and lastRetry bound the pause after a call of the agent failed.
	firstRetry, lastRetry = time.Second, 30 * time.Second
)

// desire renders the objects and pushes the result to the agent, in one loop.
type desire struct {
	log     *slog.Logger
	objects *objects
	link    *link
	gone    *deletions
	drain   *drainer
	out     *outcomes
	meter   *meter
	proxy   *proxy // nil: no announcement waits for kube-proxy
	input   bell   // an object or the drain changed
	status  bell   // the agent's status changed

	// All below is the loop's alone.
	seen     seen
	need     needs
	crowd    crowd
	verdict  verdict
	restarts restarts
	// reflectors is how many there were when a configuration was accepted last; nil:
	// none was yet.
	reflectors *int
	former     formers
	sent       sent
	holds      map[string]holding // by change; they outlive the agent's lives
	retry      time.Duration      // the last pause; 0: the last calls succeeded
	failure    string             // the last error, which was logged
	asked      time.Time          // since when Secrets are waited for
	waiting    string             // what is waited for, as it was logged last
	problems   []string           // of this turn
	used       map[string]bool    // digests of annotations that were acted on
	notes      notes
}

// seen is what of the agent's status the last turn has considered.
type seen struct {
	life   int
	up     bool
	digest string
	held   string
}

// needs is what the last rendering required.
type needs struct{ services, nodes, heard bool }

// errWait means that something is not received yet; its arrival wakes the loop.
var errWait = errors.New("waits")

// run renders and pushes until ctx ends. It returns nil then.
func (d *desire) run(ctx context.Context) error {
	ticker, again := time.NewTicker(beat), time.NewTimer(0)
	defer ticker.Stop()
	defer again.Stop()
	for {
		work := true
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			work = false
		case <-again.C:
		case <-d.input:
		case <-d.status:
			work = d.concerned()
		}
		d.meter.turned(time.Now())
		if !work {
			continue
		}
		if wait := d.turn(ctx); wait > 0 {
			again.Reset(wait)
		} else {
			again.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pace):
		}
	}
}

// concerned reports whether a status of the agent requires a turn: most differ in
// counters only.
func (d *desire) concerned() bool { return d.look() != d.seen }

func (d *desire) look() seen {
	s, life, up := d.link.last()
	now := seen{life: life, up: up, digest: s.GetConfigDigest()}
	for _, h := range s.GetHeld() {
		now.held += h.GetWhat() + " " + h.GetDigest() + "\n"
	}
	return now
}

// turn renders and pushes once. wait is when the next turn is due without a
// change; 0: only after one.
func (d *desire) turn(ctx context.Context) (wait time.Duration) {
	now := d.look()
	if now.life != d.seen.life {
		d.sent, d.verdict = sent{}, verdict{} // of another life of the agent
	}
	d.seen = now
	if kinds := d.objects.unsynced(); len(kinds) > 0 {
		d.wait("the first lists of objects", kinds...)
		return 0
	}
	if !now.up {
		d.wait("the agent's admin socket")
		return 0
	}
	d.problems = nil
	out, err := d.push(ctx, &wait)
	switch {
	case ctx.Err() != nil:
		return 0
	case errors.Is(err, errWait):
		return wait
	case err != nil:
		d.problems = append(d.problems, err.Error())
		d.retry = min(max(2*d.retry, firstRetry), lastRetry)
		if d.failure != err.Error() {
			d.log.Error("failed to push the configuration to the agent", "err", err)
		}
		d.failure = err.Error()
		wait = shorter(wait, d.retry)
	default:
		d.retry, d.failure = 0, ""
		d.meter.synced(time.Now())
	}
	d.publish(out)
	return wait
}

// shorter returns the shorter of two waits; 0 is none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// wait logs once what the loop waits for; which is what of it is missing.
func (d *desire) wait(what string, which ...string) {
	if d.waiting != what {
		d.waiting = what
		d.log.Info("waiting", "for", what, "missing", strings.Join(which, ", "))
	}
}

// push renders, and sends what differs from what the agent has.
func (d *desire) push(ctx context.Context, wait *time.Duration) (*render.Output, error) {
	have, err := d.agentHas(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now() // what is gone by now is missing in the rendering
	in, err := d.gather(ctx, have, wait)
	if err != nil {
		return nil, err
	}
	out, err := d.judged(ctx, in, wait)
	if out == nil {
		return nil, err
	}
	*wait = shorter(*wait, d.proxy.again())
	if out.Lingers {
		*wait = shorter(*wait, linger)
	}
	d.waiting = ""
	if err == nil {
		err = d.pushConfig(ctx, in, out, have, began, wait)
	}
	err = errors.Join(err, d.pushAnnouncements(ctx, out, have, began, wait), d.pushNamespaces(ctx, out, have), d.confirmHeld(ctx))
	return out, err
}

// heard returns the addresses of the peers that are heard. See [render.Input].
func (d *desire) heard(ctx context.Context, config *v1alpha1.OnlinkConfig) (map[netip.Addr]bool, error) {
	if d.link == nil { // before the first start of the agent
		return map[netip.Addr]bool{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	peers, err := d.link.admin.ListPeers(ctx, &onlinkv1.ListPeersRequest{})
	if err != nil {
		return nil, fmt.Errorf("list the agent's peers: %w", err)
	}
	heard, _ := hear(peers.GetPeers(), assertPeriod(config))
	return heard, nil
}

// gather collects the objects. What is watched only while it is required is nil
// until its first list.
func (d *desire) gather(ctx context.Context, have *has, wait *time.Duration) (*render.Input, error) {
	o := d.objects
	self, ok := o.self.get(o.node)
	if !ok {
		return nil, fmt.Errorf("there is no Node %s: set --node-name to the name of this machine's Node", o.node)
	}
	in := &render.Input{
		Node: self, Reflectors: o.reflectors.list(), Namespaces: o.namespaces.list(), Password: o.password,
		Current: []byte(have.text), Announced: have.announced, Draining: d.drain.phase() != serving,
	}
	if d.proxy != nil {
		in.Forwards = d.proxy.begin(ctx)
	}
	o.settle.view.RLock()
	in.Former = d.former.see(in.Reflectors)
	in.Peers, in.Filters, in.Pools, in.Advertisements = o.peers.list(), o.filters.list(), o.pools.list(), o.advertisements.list()
	in.Config, _ = o.configs.get(v1alpha1.ConfigName) // absent: nil, which Render rejects
	o.settle.view.RUnlock()
	*wait = shorter(*wait, d.count(ctx))
	if missing := o.requireSecrets(ctx, secretsOf(in)); len(missing) > 0 {
		if d.asked.IsZero() {
			d.asked = time.Now()
		}
		if rest := time.Until(d.asked.Add(secretWait)); rest > 0 {
			d.wait("Secrets", missing...)
			*wait = rest
			return nil, errWait
		}
	} else {
		d.asked = time.Time{}
	}
	return in, nil
}

// secretsOf returns the names of the Secrets that the objects refer to.
func secretsOf(in *render.Input) (names []string) {
	note := func(k *v1alpha1.SecretKey) {
		if k != nil && k.Name != "" {
			names = append(names, k.Name)
		}
	}
	if in.Config != nil {
		note(in.Config.Spec.Reflection.PasswordSecretRef)
	}
	for _, p := range in.Peers {
		note(p.Spec.PasswordSecretRef)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// render renders, and again when the rendering requires a list that is there. It
// returns errWait when it required all Nodes and they are not.
func (d *desire) render(ctx context.Context, in *render.Input) (*render.Output, error) {
	for {
		if err := d.require(ctx, in); err != nil {
			return nil, err
		}
		began := time.Now()
		out, err := render.Render(in)
		if err != nil {
			return nil, fmt.Errorf("nothing is rendered, what is in force stays: %w", err)
		}
		d.meter.rendered(time.Since(began))
		if out.Crowded && !d.crowd.on {
			d.crowd.found(time.Now())
			d.log.Warn("the cluster has too many nodes for a mesh, which stays as it is, and this node does not watch them any more", "most", render.MaxMesh)
			continue
		}
		last := d.need
		d.need = needs{services: out.NeedsServices, nodes: out.NeedsAllNodes, heard: out.NeedsHeard}
		if d.need != last {
			continue
		}
		if d.need.nodes && in.Nodes == nil {
			d.wait("the first list of Nodes")
			return nil, errWait
		}
		d.former.stay(out.Former)
		return out, nil
	}
}

// require reads what the last rendering required, as far as it is received.
func (d *desire) require(ctx context.Context, in *render.Input) (err error) {
	in.Crowded, in.Nodes, in.Services, in.Slices = d.crowd.on, nil, nil, nil
	if d.objects.requireNodes(ctx, d.need.nodes) && d.need.nodes {
		in.Nodes = d.objects.allNodes()
	}
	if d.objects.requireServices(ctx, d.need.services) && d.need.services {
		in.Services, in.Slices = d.objects.allServices()
	}
	if d.need.heard && in.Heard == nil {
		in.Heard, err = d.heard(ctx, in.Config)
	}
	return err
}

// publish shows the outcome of a turn. Without an output the lists of the last
// one stay: what is in force has not changed.
func (d *desire) publish(out *render.Output) {
	next := d.out.get()
	next.problems, next.failure = d.problems, d.failure
	if out != nil {
		next.services, next.rejected, next.everyNode = out.Services, out.Rejected, out.NeedsAllNodes
		next.rendered, next.isolated = true, isolation(out)
		next.problems = append(slices.Clone(d.problems), out.Problems...)
		if config, ok := d.objects.configs.get(v1alpha1.ConfigName); ok && d.sent.inForce {
			next.generation = config.Generation
		}
	}
	d.meter.rejects(len(next.rejected))
	d.out.set(next)
}
