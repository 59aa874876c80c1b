package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"onlink/kube/api/v1alpha1"
	onlinkv1 "onlink/proto/v1"
)

const (
	// period is the shortest time between two writes of the status, but for what
	// somebody waits for: conditions, held changes, rejected objects, the drain,
	// and the numbers of sessions.
	period = 30 * time.Second
	// hurry is the shortest time between two writes of those.
	hurry = time.Second
	// brief is the shortest time between two writes while sessions come and go.
	brief = 5 * time.Second
	// confirmStays is how long an annotation that confirms nothing stays: after a
	// restart of the agent the change that it confirms is held again.
	confirmStays = time.Minute
	// grace is how long a node that was ready may be not before the status says so:
	// an upgrade of the agent takes a few seconds.
	grace = 10 * time.Second
	// writeTime bounds one request to the API server.
	writeTime = 10 * time.Second

	// established is the state of a session that is up.
	established = "Established"

	maxServices = 200 // in the status
	maxListed   = 50  // of sessions and blocks
)

// reporter shows the agent's state in the OnlinkNode and the Node. In this process all
// else of them that is written is the annotation of a used confirmation.
type reporter struct {
	log     *slog.Logger
	objects *objects
	link    *link
	drain   *drainer
	out     *outcomes
	ca      *certifier
	events  *events
	meter   *meter
	wake    bell

	// All below is the loop's alone.
	started time.Time
	unready time.Time // since when the node is not ready; zero: it is
	wrote   time.Time // the last write of the status, or the last look that changed nothing
	urgent  urgent    // as written last
	last    *v1alpha1.OnlinkNodeStatus
	pools   int // of the agent; asked while it has no block
	failing bool
	idle    time.Time // since when the OnlinkNode's annotation confirms nothing; zero: it does, or there is none
}

// urgent is what of the status is written at once.
type urgent struct{ text string }

// run shows the state until ctx ends. It returns nil then.
func (r *reporter) run(ctx context.Context) error {
	r.started = time.Now()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		case <-r.wake:
		}
		wait, err := r.turn(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if !r.failing {
				r.log.Warn("failed to write the node's status", "err", err)
			}
			wait = max(wait, 5*time.Second)
		case r.failing:
			r.log.Info("the node's status is written again")
		}
		r.failing = err != nil
		again.Reset(wait)
		select { // so that a burst of changes is one write
		case <-ctx.Done():
			return nil
		case <-time.After(hurry):
		}
	}
}

// turn writes what has changed, and returns when to look again.
func (r *reporter) turn(ctx context.Context) (wait time.Duration, err error) {
	self, ok := r.objects.self.get(r.objects.node)
	if !ok || !r.objects.own.synced() {
		return period, nil
	}
	s, _, up := r.link.last()
	ready, err := r.readiness(ctx, s, up)
	if err != nil {
		return period, err
	}
	r.meter.judged(ready)
	switch {
	case ready.ok:
		r.unready = time.Time{}
	case r.unready.IsZero():
		r.unready = time.Now()
	}
	rest := time.Until(r.unready.Add(grace))
	shown := ready
	was, wasReady := r.wasReady()
	switch {
	case ready.ok || rest <= 0:
	case s == nil:
		return rest, nil // nothing is known yet, and what is shown stays
	case wasReady:
		shown = was // the rest of the status does not wait
	case !up:
		return rest, nil
	}
	if err := r.writeNode(ctx, self, ready); err != nil {
		return hurry, err
	}
	wait, err = r.writeStatus(ctx, self, s, up, shown)
	if err != nil {
		return wait, err
	}
	if rest > 0 {
		wait = min(wait, rest)
	}
	return wait, r.clearConfirmation(ctx, s, up)
}

// clearConfirmation removes the annotation of a change that is no longer held: the
// same change may be held again, and then the annotation would be no answer to it.
func (r *reporter) clearConfirmation(ctx context.Context, s *onlinkv1.Status, up bool) error {
	own, ok := r.objects.own.get(r.objects.node)
	if !ok || !up {
		return nil
	}
	digest, has := own.Annotations[v1alpha1.ConfirmAnnotation]
	if !has || slices.ContainsFunc(s.GetHeld(), func(h *onlinkv1.HeldChange) bool { return h.GetDigest() == digest }) {
		r.idle = time.Time{}
		return nil
	}
	if r.idle.IsZero() {
		r.idle = time.Now()
	}
	if time.Since(r.idle) < confirmStays {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1alpha1.ConfirmAnnotation: nil}}})
	if err != nil {
		return err
	}
	_, err = r.objects.client.Nodes.Patch(ctx, own.Name, types.MergePatchType, text, metav1.PatchOptions{})
	return wrap("remove annotation "+v1alpha1.ConfirmAnnotation+" from OnlinkNode", err)
}

// wasReady returns the readiness that the status shows, and whether it is that of a
// ready node. Before the first write of this process the status is that of the process
// before: an upgrade replaces both this one and the agent.
func (r *reporter) wasReady() (readiness, bool) {
	shown := r.last
	if own, ok := r.objects.own.get(r.objects.node); shown == nil && ok {
		shown = &own.Status
	}
	if shown == nil {
		return readiness{}, false
	}
	c := meta.FindStatusCondition(shown.Conditions, v1alpha1.ConditionReady)
	if c == nil || c.Status != metav1.ConditionTrue {
		return readiness{}, false
	}
	return readiness{ok: true, reason: c.Reason, message: c.Message}, true
}

// writeStatus writes the OnlinkNode's status when it differs and is due.
func (r *reporter) writeStatus(ctx context.Context, self *corev1.Node, s *onlinkv1.Status, up bool, ready readiness) (time.Duration, error) {
	own, _ := r.objects.own.get(r.objects.node)
	next := r.compose(own, s, up, ready)
	news := urgencyOf(own, next)
	exists := own != nil
	due := period
	if up && r.last != nil && (s.GetPeersEstablished() != uint32(r.last.Sessions.Established) || s.GetPeersTotal() != uint32(r.last.Sessions.Total)) { //nolint:gosec // counts
		due = brief
	}
	if rest := time.Until(r.wrote.Add(due)); exists && news == r.urgent && rest > 0 {
		return rest, nil
	}
	if up {
		if err := r.ask(ctx, own, s, next); err != nil {
			return hurry, err
		}
	} else if r.last != nil {
		next.Sessions, next.Blocks = r.last.Sessions, r.last.Blocks
	}
	// First: an alarm that the status cannot show, for want of its kind, is an Event.
	r.eventsOf(ctx, self, next)
	if !exists || r.last == nil || !equality.Semantic.DeepEqual(next, r.last) {
		if err := r.patch(ctx, self, exists, next); err != nil {
			return hurry, err
		}
	}
	r.wrote, r.urgent, r.last = time.Now(), news, next
	return period, nil
}

// urgencyOf returns what of a status is written at once.
func urgencyOf(own *v1alpha1.OnlinkNode, s *v1alpha1.OnlinkNodeStatus) urgent {
	var b strings.Builder
	for _, c := range s.Conditions {
		fmt.Fprintln(&b, c.Type, c.Status, c.Reason)
	}
	if s.Held != nil {
		fmt.Fprintln(&b, s.Held.Digest)
	}
	fmt.Fprintln(&b, s.Drain, s.Version, s.ConfigGeneration)
	for _, o := range s.Rejected {
		fmt.Fprintln(&b, o.Kind, o.Name, o.Generation, o.Reason)
	}
	if own != nil {
		fmt.Fprintln(&b, own.Spec.Questions)
	}
	return urgent{b.String()}
}

// compose returns the status by what is known without a question to the agent.
func (r *reporter) compose(own *v1alpha1.OnlinkNode, s *onlinkv1.Status, up bool, ready readiness) *v1alpha1.OnlinkNodeStatus {
	out := r.out.get()
	lines, _ := r.objects.troubles()
	next := &v1alpha1.OnlinkNodeStatus{
		ASN: int64(s.GetAsn()), Reflector: s.GetReflector(), Version: s.GetVersion(), Drain: s.GetDrain(),
		Problems: slices.Concat(s.GetProblems(), out.problems, lines, r.ca.problems()), Rejected: out.rejected, ConfigGeneration: out.generation,
	}
	if at, _ := r.drain.reason(); at != serving {
		next.Drain = string(at)
	}
	for _, a := range []string{s.GetAddress(), s.GetAddress6()} {
		if a != "" {
			next.Addresses = append(next.Addresses, a)
		}
	}
	next.Services = out.services[:min(len(out.services), maxServices)]
	next.MoreServices = int32(len(out.services) - len(next.Services)) //nolint:gosec // there are not so many Services
	if held := s.GetHeld(); up && len(held) > 0 {
		next.Held = &v1alpha1.HeldChange{
			Reason: held[0].GetWhat() + ": " + held[0].GetReason(), Digest: held[0].GetDigest(),
			Since: metav1.NewTime(held[0].GetSince().AsTime().Truncate(time.Second)),
		}
	}
	if own != nil {
		next.Conditions = slices.Clone(own.Status.Conditions)
	}
	if r.last != nil {
		next.Conditions = slices.Clone(r.last.Conditions)
	}
	r.conditions(own, next, ready)
	return next
}

// conditions sets the conditions of a status.
func (r *reporter) conditions(own *v1alpha1.OnlinkNode, next *v1alpha1.OnlinkNodeStatus, ready readiness) {
	var generation int64
	if own != nil {
		generation = own.Generation
	}
	set := func(kind string, ok bool, reason, message string) {
		c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: short(message), ObservedGeneration: generation}
		if ok {
			c.Status = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&next.Conditions, c)
	}
	set(v1alpha1.ConditionReady, ready.ok, ready.reason, ready.message)
	if h := next.Held; h != nil {
		set(v1alpha1.ConditionHeld, true, "Removal", h.Reason+"; to make the change: kubectl annotate onlinknode "+r.objects.node+" "+v1alpha1.ConfirmAnnotation+"="+h.Digest)
	} else {
		set(v1alpha1.ConditionHeld, false, "None", "")
	}
	switch n := len(next.Rejected); {
	case n > 0:
		o := next.Rejected[0]
		set(v1alpha1.ConditionAccepted, false, "ObjectRejected", fmt.Sprintf("%d objects are left out; %s %s: %s", n, o.Kind, o.Name, o.Reason))
	case len(r.out.get().problems) > 0:
		set(v1alpha1.ConditionAccepted, false, "Problem", r.out.get().problems[0])
	default:
		set(v1alpha1.ConditionAccepted, true, "Accepted", "")
	}
}

// short bounds a message as the API server does.
func short(s string) string {
	const most = 1024
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + " ..."
}

// ask completes a status by what the agent lists.
func (r *reporter) ask(ctx context.Context, own *v1alpha1.OnlinkNode, s *onlinkv1.Status, next *v1alpha1.OnlinkNodeStatus) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	peers, err := r.link.admin.ListPeers(ctx, &onlinkv1.ListPeersRequest{})
	if err != nil {
		return fmt.Errorf("list the agent's peers: %w", err)
	}
	blocks, err := r.link.admin.ListBlocks(ctx, &onlinkv1.ListBlocksRequest{})
	if err != nil {
		return fmt.Errorf("list the agent's blocks: %w", err)
	}
	next.Sessions = sessions(s, peers.GetPeers(), func(name string) bool {
		_, ok := r.objects.peers.get(name)
		return ok
	})
	next.Blocks = v1alpha1.NodeBlocks{
		Count: int32(s.GetBlocks()), Used: int64(s.GetAddressesUsed()), Total: int64(s.GetAddressesTotal()), //nolint:gosec // counts
	}
	for _, b := range blocks.GetBlocks()[:min(len(blocks.GetBlocks()), maxListed)] {
		next.Blocks.CIDRs = append(next.Blocks.CIDRs, v1alpha1.CIDR(b.GetCidr()))
	}
	if own != nil && len(own.Spec.Questions) > 0 {
		next.Answers, err = r.answers(ctx, own.Spec.Questions, s)
	}
	return err
}

// sessions returns the sessions of a status: those with BGPPeers and those that
// are down, the latter first.
func sessions(s *onlinkv1.Status, peers []*onlinkv1.Peer, configured func(name string) bool) v1alpha1.NodeSessions {
	out := v1alpha1.NodeSessions{
		Summary:     fmt.Sprintf("%d/%d", s.GetPeersEstablished(), s.GetPeersTotal()),
		Established: int32(s.GetPeersEstablished()), Total: int32(s.GetPeersTotal()), //nolint:gosec // counts
	}
	var up []v1alpha1.NodeSession
	for _, p := range peers {
		one := v1alpha1.NodeSession{Name: p.GetName(), Address: p.GetAddress(), State: p.GetState(), LastError: short(p.GetLastError())}
		switch {
		case p.GetStranger() || p.GetGone():
		case p.GetState() != established:
			out.Peers = append(out.Peers, one)
		case configured(p.GetName()):
			up = append(up, one)
		}
	}
	out.Peers = append(out.Peers, up...)
	out.Peers = out.Peers[:min(len(out.Peers), maxListed)]
	return out
}

// patch writes a status, and makes the object first when there is none. It goes
// with its Node.
func (r *reporter) patch(ctx context.Context, self *corev1.Node, exists bool, s *v1alpha1.OnlinkNodeStatus) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	text, err := json.Marshal([]map[string]any{{"op": "add", "path": "/status", "value": s}})
	if err != nil {
		return err
	}
	if exists {
		_, err := r.objects.client.Nodes.Patch(ctx, self.Name, types.JSONPatchType, text, metav1.PatchOptions{}, "status")
		if !apierrors.IsNotFound(err) {
			return wrap("write OnlinkNode", err)
		}
	}
	_, err = r.objects.client.Nodes.Create(ctx, &v1alpha1.OnlinkNode{ObjectMeta: metav1.ObjectMeta{
		Name: self.Name, Labels: map[string]string{v1alpha1.NodeLabel: self.Name},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: self.Name, UID: self.UID}},
	}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create OnlinkNode: %w", err)
	}
	_, err = r.objects.client.Nodes.Patch(ctx, self.Name, types.JSONPatchType, text, metav1.PatchOptions{}, "status")
	return wrap("write OnlinkNode", err)
}

// wrap adds what failed to an error, and leaves nil.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
