package integration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"onlink/integration/interop"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	onlinkv1 "onlink/proto/v1"
)

// textOf is a plan's file, which differs from every other one.
func (a *applies) textOf(p plan) []byte {
	a.t.Helper()
	text, err := p.config(a).YAML()
	must(a.t, err)
	return a.numbered(text)
}

func (a *applies) numbered(text []byte) []byte {
	a.texts++
	return append(text, fmt.Sprintf("# text %d\n", a.texts)...)
}

// digestOf is the digest that the agent gives a text.
func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// file is the text of the agent's file.
func (a *applies) file() ([]byte, error) { return os.ReadFile(a.n.ConfigFile()) }

// write puts a text into the file's place, as a careful editor does.
func (a *applies) write(text []byte) {
	a.t.Helper()
	must(a.t, os.Rename(a.beside(text), a.n.ConfigFile()))
}

// beside writes a text to another file.
func (a *applies) beside(text []byte) string {
	a.t.Helper()
	path, err := a.n.WriteText("next.yaml", text)
	must(a.t, err)
	return path
}

// hangUp sends SIGHUP.
func (a *applies) hangUp() {
	a.t.Helper()
	must(a.t, syscall.Kill(a.n.Process().Pid(), syscall.SIGHUP))
}

// within bounds one call.
func (a *applies) within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(a.ctx, d)
}

// callTime bounds a call that must not wait for anything.
const callTime = 20 * time.Second

// reloadError has the agent read its file, and returns why it rejects it; "": it does not.
func (a *applies) reloadError() string {
	a.t.Helper()
	admin, err := a.n.Admin()
	must(a.t, err)
	ctx, cancel := a.within(callTime)
	defer cancel()
	if _, err = admin.ReloadConfig(ctx, &onlinkv1.ReloadConfigRequest{}); err != nil {
		return err.Error()
	}
	return ""
}

// reload has the agent read its file, which it must take.
func (a *applies) reload() {
	a.t.Helper()
	if reason := a.reloadError(); reason != "" {
		a.t.Errorf("a good file is rejected: %s", reason)
	}
}

// onlinkctl runs a command that must fail, and returns its reason.
func (a *applies) onlinkctl(args ...string) string {
	a.t.Helper()
	out, err := a.n.Ctl(a.ctx, args...)
	must(a.t, err)
	if out.Code == 0 {
		a.t.Errorf("onlinkctl %q succeeds: %s", args, out.Stdout)
	}
	return out.Stderr
}

// changeError is the reason why the agent rejects a change; "": it does not. A dry run
// reads no key file, but for its forecast, which then says why there is none.
func (a *applies) changeError(r *onlinkv1.ChangeConfigRequest) string {
	a.t.Helper()
	admin, err := a.n.Admin()
	must(a.t, err)
	ctx, cancel := a.within(callTime)
	defer cancel()
	reply, err := admin.ChangeConfig(ctx, r)
	if err != nil {
		return err.Error()
	}
	return reply.GetForecast().GetUnknown()
}

// send makes a change over the API, which the agent must take, hold or answer.
func (a *applies) send(text []byte, with func(*onlinkv1.ChangeConfigRequest)) *onlinkv1.ChangeConfigReply {
	a.t.Helper()
	admin, err := a.n.Admin()
	must(a.t, err)
	r := &onlinkv1.ChangeConfigRequest{Text: string(text)}
	if with != nil {
		with(r)
	}
	ctx, cancel := a.within(callTime)
	defer cancel()
	reply, err := admin.ChangeConfig(ctx, r)
	must(a.t, err)
	return reply
}

// apply makes a change with onlinkctl, for the file as it is.
func (a *applies) apply(next plan) {
	a.t.Helper()
	path := a.beside(a.textOf(next))
	stale := a.onlinkctl("config", "apply", path, "--if-digest", "0123456789abcdef")
	if !strings.Contains(stale, "the file has changed since it was read") {
		a.t.Errorf("apply with the digest of another file: %s", stale)
	}
	out, err := a.n.Ctl(a.ctx, "config", "apply", path, "--if-digest", digestOf(a.text))
	must(a.t, err)
	if out.Code != 0 {
		a.t.Errorf("config apply: exit code %d, %s%s", out.Code, out.Stdout, out.Stderr)
	}
}

// ownedByOther changes the file of another user over the API: it stays that user's.
func (a *applies) ownedByOther(next plan) {
	a.t.Helper()
	const uid = 12345
	must(a.t, errors.Join(os.Chown(a.n.ConfigFile(), uid, uid), os.Chmod(a.n.ConfigFile(), 0o640)))
	a.send(a.textOf(next), nil)
	info, err := os.Stat(a.n.ConfigFile())
	must(a.t, err)
	if own := info.Sys().(*syscall.Stat_t); own.Uid != uid || own.Gid != uid || info.Mode().Perm() != 0o640 {
		a.t.Errorf("a change over the API made the file %s of %d:%d", info.Mode(), own.Uid, own.Gid)
	}
}

// linked changes a file behind a link over the API: the link stays one.
func (a *applies) linked(next plan) {
	a.t.Helper()
	file := a.n.ConfigFile()
	must(a.t, errors.Join(os.Rename(file, file+".real"), os.Symlink("onlinkd.yaml.real", file)))
	a.send(a.textOf(next), nil)
	info, err := os.Lstat(file)
	must(a.t, err)
	if info.Mode().Type() != os.ModeSymlink {
		a.t.Errorf("a change over the API made the link %s", info.Mode())
	}
	must(a.t, os.Rename(file+".real", file))
}

// trouble is the reason why the newest file is not in force, "": it is.
func (a *applies) trouble() string {
	a.t.Helper()
	st, err := a.n.Status(a.ctx)
	must(a.t, err)
	for _, p := range st.GetProblems() {
		if strings.Contains(p, "configuration is not in force") {
			return p
		}
	}
	return ""
}

// problem waits until the file is not in force, and returns the reason.
func (a *applies) problem() (reason string) {
	a.t.Helper()
	must(a.t, lab.Eventually(a.ctx, labtest.Patience, "a rejected file", func() error {
		if reason = a.trouble(); reason == "" {
			return errors.New("no problem")
		}
		return nil
	}))
	return reason
}

// views are what both sides say of the sessions that no change touches.
type views struct {
	Ours   map[string]labtest.Session // of the node, by peer
	Theirs labtest.Session            // of the other node
	ToR    labtest.Session            // of BIRD, which counts no flaps
}

func (a *applies) view() (v views) {
	a.t.Helper()
	all := labtest.Sessions(a.ctx, a.t, a.n)
	v.Ours = map[string]labtest.Session{a.other.Name: all[a.other.Name], a.tor.Name: all[a.tor.Name]}
	v.Theirs = labtest.Sessions(a.ctx, a.t, a.other)[a.n.Name]
	var err error
	v.ToR.Since, err = a.tor.Since()
	must(a.t, err)
	return v
}

// check wants the agent as the plan has it, its sessions those of before, and the routers
// to have what the plan announces.
func (a *applies) check(after string) {
	a.t.Helper()
	st, err := a.n.Status(a.ctx)
	must(a.t, err)
	if st.GetConfigDigest() != digestOf(a.text) {
		a.t.Errorf("%s: the text in force is %s, the last good one %s", after, st.GetConfigDigest(), digestOf(a.text))
	}
	now := a.view()
	for name, was := range a.before.Ours {
		same(a.t, after+": "+name, was, now.Ours[name])
	}
	same(a.t, after+": "+a.other.Name+"'s", a.before.Theirs, now.Theirs)
	same(a.t, after+": "+a.tor.Name+"'s", a.before.ToR, now.ToR)
	if err := lab.Eventually(a.ctx, labtest.Patience, after+": what the plan has", a.has); err != nil {
		a.t.Error(err)
	}
}

// has returns what the agent and the routers lack of the plan.
func (a *applies) has() error {
	admin, err := a.n.Admin()
	if err != nil {
		return err
	}
	peers, err := admin.ListPeers(a.ctx, &onlinkv1.ListPeersRequest{})
	if err != nil {
		return err
	}
	var names []string
	for _, p := range peers.GetPeers() {
		if !p.GetStranger() && !p.GetGone() {
			names = append(names, p.GetName())
		}
	}
	slices.Sort(names)
	if want := a.plan.peers(a); !slices.Equal(names, want) {
		return fmt.Errorf("peers %q, want %q", names, want)
	}
	pools, err := admin.ListPools(a.ctx, &onlinkv1.ListPoolsRequest{})
	if err != nil {
		return err
	}
	if got, want := len(pools.GetPools()), 1+len(a.plan.pools); got != want {
		return fmt.Errorf("%d pools, want %d", got, want)
	}
	if err := a.routes(); err != nil {
		return err
	}
	return a.announced()
}

// routes compares the kernel's routes with the agent's, and with those of the plan.
func (a *applies) routes() error {
	if _, err := a.n.CompareRoutes(a.ctx); err != nil {
		return err
	}
	if err := errors.Join(labtest.ThroughHops(a.n, a.otherBlock, a.other.Addr), labtest.ThroughHops(a.other, a.block, a.n.Addr)); err != nil {
		return err
	}
	var hops []netip.Addr
	if a.plan.accept {
		hops = append(hops, a.torSetup.Local)
	}
	return labtest.ThroughHops(a.n, a.torSetup.Announce[0], hops...)
}

// announced compares what the routers learned with the plan.
func (a *applies) announced() error {
	own, tags := a.plan.originated(), a.plan.tags
	blocks, err := a.n.Blocks(a.ctx)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		own = append(own, b.GetCidr())
	}
	if a.plan.mark > 0 {
		tags = append(slices.Clone(tags), fmt.Sprintf("64512:%d", a.plan.mark))
	}
	toTor := own
	if a.plan.aggregate {
		toTor = append(slices.Clone(own), "10.244.0.0/16")
	}
	if err = a.learned(a.tor, a.told(toTor, a.plan.med, tags)); err != nil || a.plan.absent || a.disabled {
		return err
	}
	return a.learned(a.victim, a.told(own, 0, nil))
}

// told is what a router should have learned.
func (a *applies) told(prefixes []string, med int, tags []string) (out []string) {
	tags = slices.Clone(tags)
	if a.drained {
		tags = append(tags, "65535:0") // GRACEFUL_SHUTDOWN (RFC 8326)
	}
	slices.Sort(tags)
	for _, p := range prefixes {
		out = append(out, fmt.Sprintln(p, med, slices.Compact(tags)))
	}
	slices.Sort(out)
	return out
}

// learned compares what a router has of the node.
func (a *applies) learned(r *interop.Router, want []string) error {
	list, err := r.Learned(a.ctx)
	if err != nil {
		return err
	}
	var have []string
	for _, route := range list {
		have = append(have, fmt.Sprintln(route.Prefix, route.MED, slices.Sorted(slices.Values(route.Communities))))
	}
	slices.Sort(have)
	if !slices.Equal(have, want) {
		return fmt.Errorf("%s has %q, want %q", r.Name, have, want)
	}
	return nil
}

// passes wants --check-config to pass the file in force.
func (a *applies) passes() {
	a.t.Helper()
	if out := checkConfig(a.ctx, a.t, a.n, a.n.ConfigFile()); out.Code != 0 {
		a.t.Errorf("--check-config rejects the file in force: %s\n%s", out.Stderr, a.text)
	}
}

// usage is what the agent's process has.
func (a *applies) usage() labtest.Usage {
	a.t.Helper()
	u, err := labtest.UsageOf(a.ctx, a.n)
	must(a.t, err)
	return u
}

// bounded wants the process not to have grown with the number of changes. The engine's
// goroutines of removed peers end a moment later.
func (a *applies) bounded(before labtest.Usage) {
	a.t.Helper()
	var now labtest.Usage
	if err := lab.Eventually(a.ctx, labtest.Patience, "the goroutines of before", func() error {
		if now = a.usage(); now.Goroutines > before.Goroutines+10 {
			return fmt.Errorf("%g of them, and %g before", now.Goroutines, before.Goroutines)
		}
		return nil
	}); err != nil {
		a.t.Error(err)
	}
	if now.Memory > 1.5*before.Memory+32<<20 {
		a.t.Errorf("the agent has %g MiB, and had %g", now.Memory/(1<<20), before.Memory/(1<<20))
	}
	a.t.Logf("goroutines %g before and %g after, MiB %.0f and %.0f", before.Goroutines, now.Goroutines, before.Memory/(1<<20), now.Memory/(1<<20))
}
