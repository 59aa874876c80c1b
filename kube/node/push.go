package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"onlink/kube/render"
	onlinkv1 "onlink/proto/v1"
)

// The changes that the agent may hold, as its status names them.
const (
	changeConfig   = "config"
	changeServices = "announce " + owner
)

// owner is the name of our announcements in the agent.
const owner = "services"

// sent is what was pushed in the present life of the agent.
type sent struct {
	config     string // hash of text and keys; "": nothing
	digest     string // the agent's, of the text
	inForce    bool   // the text is in force
	next       string // hash of the first rendering after the one in force; "": none
	kept       string // hash of what was held when the rest of it was sent
	services   *onlinkv1.AnnounceRequest
	held       bool // the announcements are held
	refused    []*onlinkv1.AnnounceRejection
	namespaces *onlinkv1.SetNamespacesRequest
}

// has is what the agent has in force.
type has struct {
	text, digest string
	announced    []render.Announcement
}

// agentHas reads the configuration and our announcements from the agent.
func (d *desire) agentHas(ctx context.Context) (*has, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	config, err := d.link.admin.GetConfig(ctx, &onlinkv1.GetConfigRequest{})
	if err != nil {
		return nil, fmt.Errorf("read the configuration in force: %w", err)
	}
	h := &has{text: config.GetText(), digest: config.GetDigest()}
	list, err := d.link.admin.ListAnnouncements(ctx, &onlinkv1.ListAnnouncementsRequest{})
	if err != nil {
		return nil, fmt.Errorf("read the announcements in force: %w", err)
	}
	for _, set := range list.GetSets() {
		if set.GetOwner() == owner {
			for _, a := range set.GetAnnouncements() {
				h.announced = append(h.announced, plain(a))
			}
		}
	}
	return h, nil
}

// verdict is the agent's judgement of one rendering.
type verdict struct {
	hash   string // of the rendering before objects were left out
	broken map[render.Object]string
	err    error // what no object is to blame for
	at     time.Time
}

// appeal is when the agent judges a rejected rendering again: it may depend on the
// agent's state, such as addresses that are in use.
const appeal = 30 * time.Second

// maxBroken bounds the dry runs of one rendering; each finds at least one object.
const maxBroken = 100

// judged renders, and leaves out the objects that the agent rejects in a dry run.
func (d *desire) judged(ctx context.Context, in *render.Input, wait *time.Duration) (*render.Output, error) {
	first, err := d.render(ctx, in)
	if err != nil {
		return nil, err
	}
	hash := hashOf(first)
	v := &d.verdict
	if good := len(v.broken) == 0 && v.err == nil; hash != v.hash || !good && time.Since(v.at) >= appeal {
		v := verdict{hash: hash, broken: map[render.Object]string{}, at: time.Now()}
		if v.err = d.judge(ctx, in, first, v.broken); v.err != nil && !final(v.err) {
			return nil, v.err
		}
		d.verdict = v
	}
	if v.err == nil && len(v.broken) == 0 {
		return first, nil
	}
	*wait = shorter(*wait, appeal)
	if v.err != nil {
		return first, v.err
	}
	in.Broken = v.broken
	return d.render(ctx, in)
}

// judge fills broken until the agent accepts the rendering.
func (d *desire) judge(ctx context.Context, in *render.Input, out *render.Output, broken map[render.Object]string) error {
	for range maxBroken {
		if string(in.Current) == string(out.Config) && len(out.Keys) == 0 {
			return nil
		}
		call, cancel := context.WithTimeout(ctx, callTime)
		_, err := d.link.admin.ChangeConfig(call, &onlinkv1.ChangeConfigRequest{Text: string(out.Config), DryRun: true, Restart: true, Keys: keyFiles(out)})
		cancel()
		if err == nil {
			return nil
		}
		if status.Code(err) != codes.InvalidArgument {
			return fmt.Errorf("the agent rejects the configuration, the last good one stays in force: %w", err)
		}
		found := blame(out, err)
		news := false
		for o, why := range found {
			if _, known := broken[o]; !known {
				broken[o], news = why, true
				d.log.Warn("the agent rejects an object, it is left out", "kind", o.Kind, "name", o.Name, "err", why)
			}
		}
		if !news {
			return fmt.Errorf("the agent rejects the configuration, the last good one stays in force: %w", err)
		}
		in.Broken = broken
		if out, err = d.render(ctx, in); err != nil {
			return err
		}
	}
	return fmt.Errorf("the agent rejects more than %d objects, the last good configuration stays in force", maxBroken)
}

// final reports whether an error is the agent's answer to the text, and not a
// fault of the moment: the same text gets the same answer.
func final(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.FailedPrecondition:
		return true
	default:
		return false
	}
}

// blame returns the objects that the fields of an answer come from.
func blame(out *render.Output, err error) map[render.Object]string {
	found := map[render.Object]string{}
	for _, detail := range status.Convert(err).Details() {
		bad, ok := detail.(*errdetails.BadRequest)
		if !ok {
			continue
		}
		for _, v := range bad.GetFieldViolations() {
			o, ok := out.Source(v.GetField())
			if !ok {
				continue
			}
			why := v.GetField() + ": " + v.GetDescription()
			if old := found[o]; old != "" {
				why = old + "; " + why
			}
			found[o] = why
		}
	}
	return found
}

// hashOf identifies text and keys of a rendering.
func hashOf(out *render.Output) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\n%s", len(out.Config), out.Config)
	for _, name := range slices.Sorted(maps.Keys(out.Keys)) {
		fmt.Fprintf(h, "%d %s %d\n%s", len(name), name, len(out.Keys[name]), out.Keys[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func keyFiles(out *render.Output) (files []*onlinkv1.KeyFile) {
	for _, name := range slices.Sorted(maps.Keys(out.Keys)) {
		files = append(files, &onlinkv1.KeyFile{Name: name, Content: out.Keys[name]})
	}
	return files
}

// pushConfig sends the configuration when it differs from what was sent, or when
// the file is another's.
func (d *desire) pushConfig(ctx context.Context, in *render.Input, out *render.Output, have *has, began time.Time, wait *time.Duration) error {
	hash, reflectors := hashOf(out), reflectorsIn(in)
	replaced := d.sent.inForce && have.digest != d.sent.digest
	switch {
	case d.sent.config == "":
	case have.digest == d.sent.digest:
		d.sent.inForce = true // a person may have confirmed it
	case !replaced && !d.stillHeld(changeConfig):
		d.sent.config, d.sent.kept = "", "" // another's file took its place, and the agent dropped it
	}
	if hash != d.sent.config || replaced {
		if d.sent.next == "" {
			d.sent.next = hash
		}
		call, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		req := &onlinkv1.ChangeConfigRequest{Text: string(out.Config), Keys: keyFiles(out), Guard: true, GuardAny: d.gone.alarming(changeConfig, out.Vanished), Restart: d.restarts.due()}
		now := d.began(changeConfig, began, reflectors, d.sent.inForce && !replaced && d.sent.next == hash, req.GetGuardAny())
		rep, err := d.link.admin.ChangeConfig(call, req)
		if status.Code(err) == codes.FailedPrecondition && !req.Restart {
			rest := d.restarts.plan(d.need.nodes)
			d.log.Info("the change needs a restart of the agent, which keeps routes and pods", "in", rest, "why", status.Convert(err).Message())
			*wait = shorter(*wait, rest)
			return nil
		}
		if err != nil {
			return fmt.Errorf("change the configuration: %w", err)
		}
		d.restarts = restarts{}
		d.sent.config, d.sent.digest, d.sent.inForce = hash, rep.GetDigest(), rep.GetHeld() == nil
		d.answered(changeConfig, rep.GetHeld(), now)
		d.logChange(changeConfig, rep.GetChanged(), rep.GetHeld())
	}
	if d.sent.inForce {
		d.sent.kept, d.sent.next, d.restarts = "", "", restarts{}
		delete(d.holds, changeConfig)
		d.gone.accepted(changeConfig, began)
		d.reflectors = &reflectors
		return nil
	}
	return errors.Join(d.pushKept(ctx, out, have), d.confirmCaused(ctx, changeConfig, out, wait))
}

// reflectorsIn counts the reflectors, and this node once more when it is one: the
// label reaches the own Node and the list of reflectors by two watches, and what its
// first arrival changes nothing at must not use up the second.
func reflectorsIn(in *render.Input) int {
	n := len(in.Reflectors)
	if render.IsReflector(in.Node) {
		n++
	}
	return n
}

// pushKept makes the part of a held change that removes nothing: objects that are new
// or changed do not wait for the confirmation of a removal. Then the change is sent
// again, because another file drops what is held.
func (d *desire) pushKept(ctx context.Context, out *render.Output, have *has) error {
	hash := d.sent.config
	if out.Kept == nil || string(out.Kept) == have.text || d.sent.kept == hash {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	// The keys of what is kept are in their files; a new one comes with its object.
	kept := &onlinkv1.ChangeConfigRequest{Text: string(out.Kept), Keys: keyFiles(out), Guard: true, DryRun: true}
	rep, err := d.link.admin.ChangeConfig(ctx, kept)
	if err != nil && !final(err) {
		return fmt.Errorf("try the configuration but for what a held change removes: %w", err)
	}
	if err != nil || rep.GetHeld() != nil { // what is kept contradicts what is new, or is not all
		d.sent.kept = hash
		d.log.Info("new objects wait for the confirmation of the held change", "err", err)
		return nil
	}
	kept.DryRun = false
	if rep, err = d.link.admin.ChangeConfig(ctx, kept); err != nil {
		return fmt.Errorf("change the configuration but for what a held change removes: %w", err)
	}
	d.sent.kept = hash
	d.log.Info("change is in force but for what waits for a confirmation", "digest", rep.GetDigest())
	rep, err = d.link.admin.ChangeConfig(ctx, &onlinkv1.ChangeConfigRequest{
		Text: string(out.Config), Keys: keyFiles(out), Guard: true, GuardAny: d.gone.alarming(changeConfig, out.Vanished), Restart: true,
	})
	if err != nil {
		d.sent.config = "" // the next turn sends it
		return fmt.Errorf("change the configuration: %w", err)
	}
	d.sent.digest, d.sent.inForce = rep.GetDigest(), rep.GetHeld() == nil
	d.answered(changeConfig, rep.GetHeld(), holding{})
	return nil
}

func (d *desire) logChange(what string, changed bool, held *onlinkv1.HeldChange) {
	switch {
	case held != nil:
		d.log.Warn("the agent holds a change until it is confirmed", "what", what, "reason", held.GetReason(), "digest", held.GetDigest())
	case changed:
		d.log.Info("change is in force", "what", what)
	}
}

// pushAnnouncements sends the announcements when they differ from what was sent.
func (d *desire) pushAnnouncements(ctx context.Context, out *render.Output, have *has, began time.Time, wait *time.Duration) error {
	phase := d.drain.phase()
	if out.Unlisted {
		return nil // their arrival is the next turn
	}
	// After a boot kube-proxy begins without a rule, and an address in force would not
	// wait for it.
	req := &onlinkv1.AnnounceRequest{Owner: owner, ThisBoot: true}
	if phase == serving || phase == leaving {
		for _, a := range out.Announcements {
			req.Announcements = append(req.Announcements, message(a))
		}
	}
	rest := unexplained(out, have, d.inForce(out), d.gone.unseen("Service") || d.gone.unseen("EndpointSlice"))
	if d.sent.services == nil || !proto.Equal(req, d.sent.services) || d.sent.held && len(rest) == 0 {
		call, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		fresh := d.sent.services != nil && !d.sent.held
		d.sent.services = proto.CloneOf(req)
		req.Confirm = phase == withdrawn || phase == drained || len(rest) == 0
		req.GuardAny = d.gone.alarming(changeServices, out.Vanished)
		now := d.began(changeServices, began, 0, fresh, req.GetGuardAny())
		if err := d.pushOthers(call, req, rest); err != nil {
			d.sent.services = nil
			return err
		}
		rep, err := d.link.admin.Announce(call, req)
		if err != nil {
			d.sent.services = nil
			return fmt.Errorf("announce services: %w", err)
		}
		d.sent.held, d.sent.refused = rep.GetHeld() != nil, rep.GetRejected()
		d.answered(changeServices, rep.GetHeld(), now)
		d.logChange(changeServices, len(req.GetAnnouncements()) != len(have.announced), rep.GetHeld())
	} else if d.sent.held {
		d.sent.held = d.stillHeld(changeServices)
	}
	for _, r := range d.sent.refused {
		d.problems = append(d.problems, fmt.Sprintf("the agent does not announce %s: %s", r.GetPrefix(), r.GetReason()))
	}
	if !d.sent.held {
		delete(d.holds, changeServices)
		d.gone.accepted(changeServices, began)
		return nil
	}
	return d.confirmCaused(ctx, changeServices, out, wait)
}

// pushOthers makes the changes that do not depend on withdrawals that the agent may
// hold. It holds a set as a whole: the addresses of other Services would not follow
// their endpoints until a person confirms it.
func (d *desire) pushOthers(ctx context.Context, req *onlinkv1.AnnounceRequest, rest []render.Announcement) error {
	if req.GetConfirm() || len(rest) < 2 && !req.GetGuardAny() { // of a single one the withdrawal is not held
		return nil
	}
	others := proto.CloneOf(req)
	for _, a := range rest {
		others.Announcements = append(others.Announcements, message(a))
	}
	others.Confirm = true
	if _, err := d.link.admin.Announce(ctx, others); err != nil {
		return fmt.Errorf("announce services: %w", err)
	}
	return nil
}

// inForce reports whether the configuration of a rendering is in force.
func (d *desire) inForce(out *render.Output) bool {
	return d.sent.inForce && d.sent.config == hashOf(out)
}

// unexplained returns what is withdrawn without a reason of its own. Explained is what a
// Service itself is not announced for, such as its endpoints, and what the node is, once
// its configuration is in force: while the removal of a session is held, that there is
// none is no reason. unseen: Services or endpoints vanished from a list. All else is the
// guard's to judge.
func unexplained(out *render.Output, have *has, inForce, unseen bool) (rest []render.Announcement) {
	stays := map[string]bool{}
	for _, a := range out.Announcements {
		stays[a.Prefix] = true
	}
	explains := func(r render.Reason) bool {
		return r == render.ReasonService || inForce && r == render.ReasonNode
	}
	for _, a := range have.announced {
		if stays[a.Prefix] {
			continue
		}
		p, err := netip.ParsePrefix(a.Prefix)
		some, all := false, !unseen && err == nil
		switch {
		case !all:
		case p.IsSingleIP():
			reason, known := out.Reasons[p.Addr()]
			some, all = known, explains(reason)
		default: // an aggregate
			for addr, reason := range out.Reasons {
				if p.Contains(addr) {
					some, all = true, all && explains(reason)
				}
			}
		}
		if !some || !all {
			rest = append(rest, a)
		}
	}
	return rest
}

// pushNamespaces sends the pools of namespaces when they differ from what was
// sent.
func (d *desire) pushNamespaces(ctx context.Context, out *render.Output, have *has) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	stay, err := d.stayingChoices(ctx, out, have)
	if err != nil {
		return err
	}
	req := &onlinkv1.SetNamespacesRequest{}
	for name, pools := range out.Namespaces {
		if !slices.ContainsFunc(stay, func(n *onlinkv1.NamespacePools) bool { return n.GetNamespace() == name }) {
			req.Namespaces = append(req.Namespaces, &onlinkv1.NamespacePools{Namespace: name, Pools: pools})
		}
	}
	req.Namespaces = append(req.Namespaces, stay...)
	slices.SortFunc(req.Namespaces, func(a, b *onlinkv1.NamespacePools) int { return strings.Compare(a.GetNamespace(), b.GetNamespace()) })
	if d.sent.namespaces != nil && proto.Equal(req, d.sent.namespaces) {
		return nil
	}
	if _, err := d.link.admin.SetNamespaces(ctx, req); err != nil {
		return fmt.Errorf("set the pools of namespaces: %w", err)
	}
	d.sent.namespaces = req
	return nil
}

// stayingChoices returns the choices of namespaces in the agent that are to stay: those
// of a pool that is in force and not in the rendering, until its removal is in force too,
// because new pods would get addresses of the default pools meanwhile; and all of pools
// in force while there is no Namespace, as every cluster has some.
func (d *desire) stayingChoices(ctx context.Context, out *render.Output, have *has) (stay []*onlinkv1.NamespacePools, err error) {
	empty := len(d.objects.namespaces.list()) == 0
	if !empty && d.sent.inForce && d.sent.config == hashOf(out) {
		return nil, nil
	}
	pools, next := poolsOf([]byte(have.text)), poolsOf(out.Config)
	if !empty {
		pools = slices.DeleteFunc(pools, func(name string) bool { return slices.Contains(next, name) })
	}
	if len(pools) == 0 {
		return nil, nil
	}
	rep, err := d.link.admin.ListNamespaces(ctx, &onlinkv1.ListNamespacesRequest{})
	if err != nil {
		return nil, fmt.Errorf("list the pools of namespaces: %w", err)
	}
	return slices.DeleteFunc(rep.GetNamespaces(), func(n *onlinkv1.NamespacePools) bool {
		return !slices.ContainsFunc(n.GetPools(), func(name string) bool { return slices.Contains(pools, name) })
	}), nil
}

// poolsOf returns the names of the pools of a configuration.
func poolsOf(text []byte) (names []string) {
	var file struct {
		Pools []struct {
			Name string `json:"name"`
		} `json:"pools"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil // the agent's own text, or one that it rejects
	}
	for _, p := range file.Pools {
		names = append(names, p.Name)
	}
	return names
}

// plain and message translate announcements.
func plain(a *onlinkv1.Announcement) render.Announcement {
	return render.Announcement{
		Prefix: a.GetPrefix(), Communities: a.GetCommunities(), LocalPref: a.LocalPref, MED: a.Med,
		Peers: a.GetPeers(), GracefulShutdown: a.GetGracefulShutdown(), Reason: a.GetReason(),
	}
}

func message(a render.Announcement) *onlinkv1.Announcement {
	return &onlinkv1.Announcement{
		Prefix: a.Prefix, Communities: a.Communities, LocalPref: a.LocalPref, Med: a.MED,
		Peers: a.Peers, GracefulShutdown: a.GracefulShutdown, Reason: strings.ToValidUTF8(a.Reason, "?"),
	}
}
