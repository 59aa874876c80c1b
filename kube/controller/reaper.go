package controller

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
	"onlink/kube/registry"
)

// Bounds of the questions: how many nodes of a mesh are asked, and how many blocks
// at once.
const (
	witnesses    = 3
	maxQuestions = 64
)

// defaultPatience is how long a Lease without a period keeps its node alive: two
// asserts of the default period.
const defaultPatience = 2 * time.Minute

// reaper frees the blocks of deleted nodes by three proofs: the Node is gone, as the
// API server says now; its Lease was not renewed for two of its periods, by this
// process's own clock; and no witness receives an announcement of the blocks, in
// an answer to a question that was asked after the first two. A proof that fails
// begins all three anew.
type reaper struct {
	c      *controller
	gone   map[string]*deceased
	freed  map[string]sighting // free Blocks
	owes   map[string]owing    // witnesses
	leases *leases
}

// sighting is an object as it was first read at a time.
type sighting struct {
	version string
	at      time.Time
}

// deceased is what is known about one absent node.
type deceased struct {
	lease sighting // of its Lease; version "" is that there is none
	// silent is that the Lease did not change for two periods, as of looked.
	silent bool
	looked time.Time
	asked  map[string]map[string]metav1.Time
	said   string // the last reason to wait that was logged
	// next is when the node is examined again, questions what witnesses are asked
	// until then. pause is the time between two examinations of a node that is heard.
	next      time.Time
	pause     time.Duration
	questions map[string][]string
}

// owing is a witness that has not answered everything: since when it answered nothing
// new.
type owing struct {
	newest metav1.Time // of its answers
	since  time.Time
	said   bool
}

const (
	// relook is how often a node is examined, slowLook how often while a witness
	// hears it, and how long one look at its Lease counts.
	relook   = time.Second
	slowLook = 10 * time.Second
	// mute is how long a witness owes an answer before the others decide without it.
	mute = time.Minute
)

func newReaper(c *controller) *reaper {
	return &reaper{c: c, gone: map[string]*deceased{}, freed: map[string]sighting{}, owes: map[string]owing{}, leases: &leases{c: c}}
}

// turn looks at every node that owns blocks and is not in the cache of Nodes.
func (r *reaper) turn(ctx context.Context) error {
	owned := map[string][]*v1alpha1.Block{}
	for _, b := range list[*v1alpha1.Block](r.c.w.blocks) {
		if b.Spec.Node != "" {
			owned[b.Spec.Node] = append(owned[b.Spec.Node], b)
		}
	}
	nodes := list[*corev1.Node](r.c.w.nodes)
	if len(nodes) == 0 {
		clear(r.gone)
		if len(owned) == 0 {
			r.c.m.alarm("nodes_vanished", false)
			return r.prune(ctx) // a cluster that begins
		}
		if r.c.m.alarm("nodes_vanished", true) {
			r.c.log.Error("the API server lists no Node, and nodes own blocks: nothing is freed", "owners", len(owned))
		}
		return nil
	}
	r.c.m.alarm("nodes_vanished", false)
	for name := range r.gone {
		if _, ok := owned[name]; !ok || r.present(name) {
			delete(r.gone, name)
		}
	}
	r.reckon()
	var all error
	absentees := 0
	questions := map[string][]string{}
	for _, name := range sortedKeys(owned) {
		if r.present(name) {
			continue
		}
		absentees++
		if err := r.examine(ctx, name, owned[name]); err != nil {
			all = errors.Join(all, fmt.Errorf("blocks of the deleted node %s: %w", name, err))
		}
		for witness, cidrs := range r.gone[name].questions {
			questions[witness] = append(questions[witness], cidrs...)
		}
	}
	r.c.m.candidates.Set(float64(absentees))
	return errors.Join(all, r.ask(ctx, questions), r.prune(ctx), r.leases.turn(ctx, owned, r.present))
}

func (r *reaper) present(name string) bool {
	_, ok := get[*corev1.Node](r.c.w.nodes, name)
	return ok
}

// examine takes one absent node a step further. That its Node is gone is what the cache
// says here; free reads it from the API server.
func (r *reaper) examine(ctx context.Context, name string, blocks []*v1alpha1.Block) error {
	d := r.gone[name]
	if d == nil {
		d = &deceased{}
		r.gone[name] = d
	}
	if time.Now().Before(d.next) {
		return nil
	}
	d.next, d.questions = time.Now().Add(relook), map[string][]string{}
	if !d.silent || time.Since(d.looked) >= slowLook {
		lease, err := r.look(ctx, name, d)
		if err != nil {
			return err
		}
		if wait := time.Until(d.lease.at.Add(patienceOf(lease))); !d.silent && wait > relook {
			d.next = time.Now().Add(wait)
		}
	}
	if !d.silent {
		return nil
	}
	lives, err := r.hearAll(ctx, name, blocks, d)
	if err != nil {
		return err
	}
	if lives { // each question and its withdrawal is a write to every witness
		d.pause = min(max(2*d.pause, relook), slowLook)
		d.next = time.Now().Add(d.pause)
	}
	return nil
}

// hearAll asks the witnesses about the blocks of a silent node, frees those that no one
// hears, and reports whether one hears one.
func (r *reaper) hearAll(ctx context.Context, name string, blocks []*v1alpha1.Block, d *deceased) (lives bool, err error) {
	asked, why := r.witnesses()
	if why != "" {
		r.say(d, name, why)
	}
	sort.Slice(blocks, func(i, j int) bool { return blocks[i].Name < blocks[j].Name })
	for _, b := range blocks {
		heard, answered := r.heard(d, b, asked)
		for _, o := range asked {
			if at, _, ok := answer(o, b.Spec.CIDR); ok && at.Equal(new(d.asked[b.Name][o.Name])) {
				continue // an answer from before: it goes when the question goes
			}
			d.questions[o.Name] = append(d.questions[o.Name], string(b.Spec.CIDR))
		}
		switch {
		case heard != "":
			r.say(d, name, "its blocks are still announced: the machine runs", "block", b.Spec.CIDR, "witness", heard)
			lives = true
		case answered:
			if err := r.free(ctx, name, b, d); err != nil {
				return false, err
			}
			if !d.silent {
				return false, nil
			}
		}
	}
	return lives, nil
}

// say logs once why blocks are not freed, with an example.
func (r *reaper) say(d *deceased, name, why string, example ...any) {
	if d.said != why {
		d.said = why
		r.c.log.With(example...).Warn("the Node is gone and its blocks are not freed", "node", name, "reason", why)
	}
}

// look reads the Lease of an absent node; nil: there is none. One that changed begins
// all three proofs anew.
func (r *reaper) look(ctx context.Context, name string, d *deceased) (*coordinationv1.Lease, error) {
	lease, err := r.c.client.CoordinationV1().Leases(r.c.opt.Namespace).Get(ctx, registry.LeaseName(name), metav1.GetOptions{})
	if err != nil && !gone(err) {
		return nil, fmt.Errorf("read Lease: %w", err)
	}
	version := "none"
	if err == nil {
		version = lease.ResourceVersion
	} else {
		lease = nil
	}
	if d.lease.version != version {
		d.begin(sighting{version: version, at: time.Now()})
	}
	d.looked, d.silent = time.Now(), time.Since(d.lease.at) > patienceOf(lease)
	return lease, nil
}

// begin begins the proofs anew.
func (d *deceased) begin(lease sighting) {
	d.lease, d.silent, d.asked, d.pause = lease, false, nil, 0
}

// lookTwice is the first two proofs by the API server, not by the cache: no Node, and
// a Lease that did not change for two periods.
func (r *reaper) lookTwice(ctx context.Context, name string, d *deceased) (*coordinationv1.Lease, error) {
	_, err := r.c.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		d.begin(sighting{}) // the cache lags
		return nil, nil     //nolint:nilnil // d says that it is not silent
	}
	if !gone(err) {
		return nil, fmt.Errorf("read Node: %w", err)
	}
	return r.look(ctx, name, d)
}

// gone reports that the API server has no such object, and not that it does not
// serve the resource.
func gone(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// serves returns the OnlinkNode of a Node that says that it is Ready and has a session:
// without one an agent answers nothing.
func (r *reaper) serves(n *corev1.Node) (*v1alpha1.OnlinkNode, bool) {
	o, ok := get[*v1alpha1.OnlinkNode](r.c.w.onNodes, n.Name)
	return o, ok && meta.IsStatusConditionTrue(o.Status.Conditions, v1alpha1.ConditionReady) && alive(n) && o.Status.Sessions.Established > 0
}

// reckon notes since when each witness answers nothing new: where onlink-kube does not
// run, the OnlinkNode says for ever that the node serves.
func (r *reaper) reckon() {
	owes := map[string]owing{}
	silent := false
	for _, n := range list[*corev1.Node](r.c.w.nodes) {
		o, ok := r.serves(n)
		if !ok || settled(o) {
			continue
		}
		newest := metav1.Time{}
		for _, a := range o.Status.Answers {
			if newest.Before(&a.At) {
				newest = a.At
			}
		}
		w, known := r.owes[o.Name]
		if !known || !w.newest.Equal(&newest) {
			w = owing{newest: newest, since: time.Now()}
		}
		if time.Since(w.since) > mute {
			silent = true
			if !w.said {
				w.said = true
				r.c.log.Warn("a node does not answer whether it receives the blocks of deleted nodes, the others decide", "witness", o.Name, "since", w.since)
			}
		}
		owes[o.Name] = w
	}
	r.owes = owes
	r.c.m.alarm("witness_mute", silent)
}

// settled reports whether a node has answered what it is asked, and that alone.
func settled(o *v1alpha1.OnlinkNode) bool {
	return len(o.Status.Answers) == len(o.Spec.Questions) && !slices.ContainsFunc(o.Spec.Questions, func(q v1alpha1.CIDR) bool {
		_, _, ok := answer(o, q)
		return !ok
	})
}

func (r *reaper) isMute(o *v1alpha1.OnlinkNode) bool {
	w, owes := r.owes[o.Name]
	return owes && time.Since(w.since) > mute
}

// witnesses returns the nodes that are asked: all reflectors, which receive every
// announcement; in a mesh three nodes that serve. Mute ones are asked on, and do not
// count, until they answer. why says that no answer can come.
func (r *reaper) witnesses() (asked []*v1alpha1.OnlinkNode, why string) {
	var mesh, reflectors []*v1alpha1.OnlinkNode
	unready := ""
	for _, n := range list[*corev1.Node](r.c.w.nodes) {
		o, ready := r.serves(n)
		if label, set := n.Labels[v1alpha1.ReflectorLabel]; set && label != "false" {
			if !ready {
				unready = n.Name
				continue
			}
			reflectors = append(reflectors, o)
		} else if ready {
			mesh = append(mesh, o)
		}
	}
	byName := func(a, b *v1alpha1.OnlinkNode) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(mesh, byName)
	slices.SortFunc(reflectors, byName)
	switch {
	case len(reflectors) > 0:
		asked = reflectors
	case unready != "":
		return nil, fmt.Sprintf("no reflector can say whether the blocks are announced: %s is not Ready or has no session", unready)
	case len(mesh) == 0:
		return nil, "no node is Ready, with a session, that could say whether the blocks are announced"
	default:
		vocal := 0
		for _, o := range mesh {
			switch {
			case r.isMute(o):
				asked = append(asked, o)
			case vocal < witnesses:
				asked, vocal = append(asked, o), vocal+1
			}
		}
	}
	if !slices.ContainsFunc(asked, func(o *v1alpha1.OnlinkNode) bool { return !r.isMute(o) }) {
		why = asked[0].Name + " does not answer whether the blocks are announced"
	}
	return asked, why
}

// alive reports whether Kubernetes takes a Node for ready: the status of a dead one
// says Ready for ever, and it answers nothing.
func alive(n *corev1.Node) bool {
	i := slices.IndexFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	return i < 0 || n.Status.Conditions[i].Status == corev1.ConditionTrue
}

// heard returns a witness that receives the block, and whether all of them answered
// since they were asked, of which mute ones do not count. An answer from before does not count: the witness may have
// given it while the node was starting.
func (r *reaper) heard(d *deceased, b *v1alpha1.Block, asked []*v1alpha1.OnlinkNode) (by string, all bool) {
	if d.asked == nil {
		d.asked = map[string]map[string]metav1.Time{}
	}
	before := d.asked[b.Name]
	if before == nil {
		before = map[string]metav1.Time{}
		d.asked[b.Name] = before
	}
	all = true
	answers := 0
	for _, o := range asked {
		at, heard, answered := answer(o, b.Spec.CIDR)
		old, known := before[o.Name]
		if !known {
			before[o.Name], old = at, at
		}
		if !answered || !slices.Contains(o.Spec.Questions, b.Spec.CIDR) || at.Equal(&old) {
			all = all && r.isMute(o)
			continue
		}
		answers++
		if heard {
			by, all = o.Name, false
			before[o.Name] = at // the next one may deny it
		}
	}
	return by, all && answers > 0
}

// answer returns what a witness says about a block.
func answer(o *v1alpha1.OnlinkNode, cidr v1alpha1.CIDR) (at metav1.Time, heard, ok bool) {
	for _, a := range o.Status.Answers {
		if a.CIDR == cidr {
			return a.At, a.Heard, true
		}
	}
	return metav1.Time{}, false, false
}

// ask makes the questions of every node those of this turn.
func (r *reaper) ask(ctx context.Context, questions map[string][]string) error {
	var all error
	for _, o := range list[*v1alpha1.OnlinkNode](r.c.w.onNodes) {
		var want []v1alpha1.CIDR
		for _, q := range questions[o.Name] {
			if len(want) < maxQuestions {
				want = append(want, v1alpha1.CIDR(q))
			}
		}
		if slices.Equal(want, o.Spec.Questions) {
			continue
		}
		next := o.DeepCopy()
		next.Spec.Questions = want
		_, err := r.c.client.Nodes.Update(ctx, next, metav1.UpdateOptions{})
		if err != nil && !apierrors.IsConflict(err) && !gone(err) {
			all = errors.Join(all, fmt.Errorf("ask node %s: %w", o.Name, err))
		}
	}
	return all
}

// free frees one block. The version of the Block is that of which all was proven, or
// that of the doubt. An assert renews the Lease and reads the Blocks, and writes to one
// only where it finds a doubt: of a machine that returns, either the last look here
// sees the renewed Lease, or its assert sees the doubt, and then one of the two writes
// comes too late.
func (r *reaper) free(ctx context.Context, name string, b *v1alpha1.Block, d *deceased) error {
	b, err := r.doubt(ctx, b)
	if err != nil || b == nil {
		return err
	}
	lease, err := r.lookTwice(ctx, name, d)
	if err != nil || !d.silent {
		return err
	}
	next := b.DeepCopy()
	delete(next.Annotations, registry.DoubtedAnnotation)
	next.Spec.Node = ""
	next.Spec.Epoch = max(b.Spec.Epoch+1, min(time.Now().UnixMicro(), math.MaxInt64))
	delete(next.Labels, v1alpha1.NodeLabel)
	next, err = r.c.client.Blocks.Update(ctx, next, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) || gone(err) {
		return nil // its event begins the next turn
	}
	if err != nil {
		return fmt.Errorf("free Block %s: %w", b.Name, err)
	}
	r.c.m.freed.Inc()
	r.c.log.Warn("freed a block of a deleted node", "block", b.Spec.CIDR, "node", name, "epoch", next.Spec.Epoch)
	r.c.events.Record(reference("Block", b), corev1.EventTypeNormal, "Freed",
		fmt.Sprintf("node %s is deleted, did not renew its Lease for %s and none of the asked nodes receives the block", name, patienceOf(lease)))
	if lease == nil || r.owns(name, b.Name) {
		return nil
	}
	uid, version := lease.UID, lease.ResourceVersion
	err = r.c.client.CoordinationV1().Leases(r.c.opt.Namespace).Delete(ctx, lease.Name,
		metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
	if err != nil && !gone(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete Lease of node %s: %w", name, err)
	}
	return nil
}

// doubt writes to a Block that it is about to be freed; nil: another write came first.
func (r *reaper) doubt(ctx context.Context, b *v1alpha1.Block) (*v1alpha1.Block, error) {
	if _, doubted := b.Annotations[registry.DoubtedAnnotation]; doubted {
		return b, nil
	}
	next := b.DeepCopy()
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, registry.DoubtedAnnotation, "true")
	next, err := r.c.client.Blocks.Update(ctx, next, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) || gone(err) {
		return nil, nil //nolint:nilnil // its event begins the next turn
	}
	if err != nil {
		return nil, fmt.Errorf("doubt Block %s: %w", b.Name, err)
	}
	return next, nil
}

// owns reports whether a node owns a block besides one.
func (r *reaper) owns(node, besides string) bool {
	return slices.ContainsFunc(list[*v1alpha1.Block](r.c.w.blocks), func(b *v1alpha1.Block) bool {
		return b.Spec.Node == node && b.Name != besides
	})
}

func patienceOf(l *coordinationv1.Lease) time.Duration {
	if l == nil || l.Spec.LeaseDurationSeconds == nil || *l.Spec.LeaseDurationSeconds <= 0 {
		return defaultPatience
	}
	return time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second
}

// prune deletes Blocks that have been free for long: names of nodes that come and go
// would leave one behind each, in a range of IPv6 without a bound. The next claim has
// a greater epoch also without the object.
func (r *reaper) prune(ctx context.Context) error {
	present := map[string]bool{}
	var all error
	for _, b := range list[*v1alpha1.Block](r.c.w.blocks) {
		if b.Spec.Node != "" {
			continue
		}
		present[b.Name] = true
		seen := r.freed[b.Name]
		if seen.version != b.ResourceVersion {
			r.freed[b.Name] = sighting{b.ResourceVersion, time.Now()}
			continue
		}
		if time.Since(seen.at) < r.c.opt.BlockAge {
			continue
		}
		uid, version := b.UID, b.ResourceVersion
		err := r.c.client.Blocks.Delete(ctx, b.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
		if err != nil && !gone(err) && !apierrors.IsConflict(err) {
			all = errors.Join(all, fmt.Errorf("delete the free Block %s: %w", b.Name, err))
		}
	}
	for name := range r.freed {
		if !present[name] {
			delete(r.freed, name)
		}
	}
	return all
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
