package node

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"onlink/kube/api/v1alpha1"
	"onlink/kube/render"
	onlinkv1 "onlink/proto/v1"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	good := func() *onlinkv1.Status {
		return &onlinkv1.Status{Phase: "ready", InSync: true, Blocks: 1, PeersTotal: 3, PeersEstablished: 1}
	}
	for _, c := range []struct {
		name     string
		change   func(*onlinkv1.Status)
		pools    int
		alone    bool
		isolated string
		want     string
	}{
		{"serving", func(*onlinkv1.Status) {}, 1, false, "", "Serving"},
		{"starting", func(s *onlinkv1.Status) { s.Phase = "starting" }, 1, false, "", "Syncing"},
		{"not in sync", func(s *onlinkv1.Status) { s.InSync = false }, 1, false, "", "Syncing"},
		{"no block", func(s *onlinkv1.Status) { s.Blocks = 0 }, 1, false, "", "NoBlock"},
		{"no block, and no pool that could have one", func(s *onlinkv1.Status) { s.Blocks = 0 }, 0, false, "", "Serving"},
		{"no session", func(s *onlinkv1.Status) { s.PeersEstablished = 0 }, 1, false, "", "NoSession"},
		{"no session, and the others of the mesh are down", func(s *onlinkv1.Status) { s.PeersEstablished = 0 }, 1, true, "", "Serving"},
		{"no peer", func(s *onlinkv1.Status) { s.PeersTotal, s.PeersEstablished = 0, 0 }, 1, false, "", "Serving"},
		{"no peer, and it should have one", func(s *onlinkv1.Status) { s.PeersTotal, s.PeersEstablished = 0, 0 }, 1, false, "the key is missing", "NoSession"},
		{"a new node of a full mesh", func(s *onlinkv1.Status) { s.PeersTotal, s.PeersEstablished = 0, 0 }, 1, true, "the mesh is full", "NoSession"},
		{"the sessions in force stay while their removal is held", func(*onlinkv1.Status) {}, 1, false, "there is no reflector", "Serving"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := good()
			c.change(s)
			got := judge(s, c.pools, c.alone, c.isolated)
			if got.reason != c.want || got.ok != (c.want == "Serving") || got.message == "" || !got.ok && c.isolated != "" && got.message != c.isolated {
				t.Errorf("got %+v, want %s", got, c.want)
			}
		})
	}
}

// TestIsolation: before the first rendering it is not known whether a node needs a
// session; after it, only an isolated one lacks it.
func TestIsolation(t *testing.T) {
	t.Parallel()
	if why := (&outcome{}).lacksSession(); why == "" {
		t.Error("before the first rendering a node without a session would be ready")
	}
	for _, isolated := range []bool{false, true} {
		out := &outcome{rendered: true, isolated: isolation(&render.Output{Isolated: isolated, Problems: []string{"the key is missing"}})}
		if why := out.lacksSession(); (why != "") != isolated || isolated && !strings.Contains(why, "the key is missing") {
			t.Errorf("isolated %t: %q", isolated, why)
		}
	}
}

func TestDrainReason(t *testing.T) {
	t.Parallel()
	config := &v1alpha1.OnlinkConfig{Spec: v1alpha1.OnlinkConfigSpec{Drain: v1alpha1.Drain{Taints: []string{"example.com/broken"}}}}
	taint := func(key string) corev1.Node {
		return corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: key}}}}
	}
	annotated := func(value string) (n corev1.Node) {
		n.Annotations = map[string]string{v1alpha1.DrainAnnotation: value}
		return n
	}
	unready := func(message string) corev1.Node {
		return corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: message},
		}}}
	}
	for _, c := range []struct {
		name string
		node corev1.Node
		want string
	}{
		{"nothing", corev1.Node{}, ""},
		{"cordon", corev1.Node{Spec: corev1.NodeSpec{Unschedulable: true, Taints: []corev1.Taint{{Key: corev1.TaintNodeUnschedulable}}}}, ""},
		{"annotation", annotated("true"), "annotation onlink.io/drain"},
		{"empty annotation", annotated(""), "annotation onlink.io/drain"},
		{"annotation false", annotated("false"), ""},
		{"out of service", taint(corev1.TaintNodeOutOfService), "taint node.kubernetes.io/out-of-service"},
		{"configured taint", taint("example.com/broken"), "taint example.com/broken"},
		{"another taint", taint("example.com/gpu"), ""},
		{"kubelet shuts down", unready("[container runtime is down, node is shutting down]"), "kubelet: node is shutting down"},
		{"kubelet is not ready", unready("container runtime is down"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := drainReason(&c.node, config); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if got := drainReason(&corev1.Node{Spec: taint(corev1.TaintNodeOutOfService).Spec}, nil); got == "" {
		t.Error("without an OnlinkConfig the taint of Kubernetes drains nothing")
	}
}

func TestDrainWait(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"": defaultWait, "5s": 5 * time.Second, "0s": 0, "100h": time.Hour, "soon": defaultWait, "-1s": defaultWait} {
		if got := drainWait(&v1alpha1.OnlinkConfig{Spec: v1alpha1.OnlinkConfigSpec{Drain: v1alpha1.Drain{Wait: v1alpha1.Duration(text)}}}); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
	if got := drainWait(nil); got != defaultWait {
		t.Errorf("without an OnlinkConfig it is %s", got)
	}
}

func TestReceived(t *testing.T) {
	t.Parallel()
	block := netip.MustParsePrefix("10.244.3.64/26")
	for _, c := range []struct {
		prefix, kind string
		want         bool
	}{
		{"10.244.3.64/26", "unicast", true},
		{"10.244.3.64/26", "unresolved", true}, // announced by a node that is not reached
		{"10.244.3.70/32", "unicast", true},
		{"10.244.3.64/26", "blackhole", false}, // our own
		{"10.244.3.64/26", "local", false},
		{"10.244.0.0/16", "unicast", false}, // an aggregate
		{"0.0.0.0/0", "unicast", false},
		{"fd00::/64", "unicast", false},
		{"?", "unicast", false},
	} {
		if got := received([]*onlinkv1.Route{{Prefix: c.prefix, Kind: c.kind}}, block, nil); got != c.want {
			t.Errorf("%s %s: got %v", c.kind, c.prefix, got)
		}
	}
}

// TestBlame: the agent names fields of the file; the objects that they come from
// are left out, each once.
func TestBlame(t *testing.T) {
	t.Parallel()
	a, b := render.Object{Kind: "BGPPeer", Name: "a"}, render.Object{Kind: "IPPool", Name: "b"}
	out := &render.Output{Sources: map[string]render.Object{"bgp.peers[1]": a, "pools[0]": b}}
	st, err := status.New(codes.InvalidArgument, "mistakes").WithDetails(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: "bgp.peers[1].holdTime", Description: "is too short"},
		{Field: "bgp.peers[1].asn", Description: "is reserved"},
		{Field: "pools[0].cidr", Description: "overlaps"},
		{Field: "log.level", Description: "is unknown"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	found := blame(out, st.Err())
	if len(found) != 2 || found[a] != "bgp.peers[1].holdTime: is too short; bgp.peers[1].asn: is reserved" || found[b] != "pools[0].cidr: overlaps" {
		t.Errorf("found %v", found)
	}
	if found := blame(out, status.Error(codes.InvalidArgument, "no details")); len(found) != 0 {
		t.Errorf("without details found %v", found)
	}
}

// TestUnexplained: a withdrawal needs no confirmation for a reason of the Service, and
// for one of the node only while its configuration is in force.
func TestUnexplained(t *testing.T) {
	t.Parallel()
	reasons := map[netip.Addr]render.Reason{}
	for addr, r := range map[string]render.Reason{
		"192.0.2.1": render.ReasonService, "192.0.2.2": render.ReasonService, "192.0.2.17": render.ReasonService, "192.0.2.18": render.ReasonNode,
		"192.0.2.33": render.ReasonService, "192.0.2.34": render.ReasonElsewhere, "2001:db8::1": render.ReasonService,
	} {
		reasons[netip.MustParseAddr(addr)] = r
	}
	stays := []render.Announcement{{Prefix: "192.0.2.200/32"}}
	for _, c := range []struct {
		name             string
		had              []string
		unseen, notInUse bool
		want             []string
	}{
		{"nothing is withdrawn", []string{"192.0.2.200/32"}, false, false, nil},
		{"of a Service that is there", []string{"192.0.2.1/32", "2001:db8::1/128"}, false, false, nil},
		{"an aggregate of such", []string{"192.0.2.0/28"}, false, false, nil},
		{"of none", []string{"192.0.2.1/32", "198.51.100.1/32"}, false, false, []string{"198.51.100.1/32"}},
		{"an aggregate of none", []string{"198.51.100.0/24"}, false, false, []string{"198.51.100.0/24"}},
		{"Services or endpoints vanished from a list", []string{"192.0.2.1/32", "192.0.2.200/32"}, true, false, []string{"192.0.2.1/32"}},
		{"for the node", []string{"192.0.2.18/32"}, false, false, nil},
		{"for the node, while a change of its configuration is held", []string{"192.0.2.1/32", "192.0.2.18/32"}, false, true, []string{"192.0.2.18/32"}},
		{"an aggregate with one of the node", []string{"192.0.2.16/28"}, false, false, nil},
		{"an aggregate with one of the node, while it is held", []string{"192.0.2.16/28"}, false, true, []string{"192.0.2.16/28"}},
		{"for other objects", []string{"192.0.2.34/32", "192.0.2.32/28"}, false, false, []string{"192.0.2.34/32", "192.0.2.32/28"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			have := &has{}
			for _, p := range c.had {
				have.announced = append(have.announced, render.Announcement{Prefix: p})
			}
			var got []string
			for _, a := range unexplained(&render.Output{Announcements: stays, Reasons: reasons}, have, !c.notInUse, c.unseen) {
				got = append(got, a.Prefix)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
