package controller

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
)

const asked v1alpha1.CIDR = "10.244.0.0/26"

// court is a reaper over caches that the test fills: what it decides by them needs no
// API server.
type court struct {
	*reaper

	t    *testing.T
	log  bytes.Buffer
	dead deceased
}

func newCourt(t *testing.T) *court {
	t.Helper()
	c := &court{t: t}
	w := &watches{
		nodes:   informer[*corev1.NodeList](nil, kindNode, nil, &corev1.Node{}),
		onNodes: informer[*v1alpha1.OnlinkNodeList](nil, kindOnNode, nil, &v1alpha1.OnlinkNode{}),
	}
	c.reaper = newReaper(&controller{w: w, m: newMetrics(""), log: slog.New(slog.NewTextHandler(&c.log, nil))})
	return c
}

// node makes the cache have a Node that serves with a number of sessions.
func (c *court) node(name string, reflector bool, sessions int32) *v1alpha1.OnlinkNode {
	c.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	if reflector {
		n.Labels[v1alpha1.ReflectorLabel] = ""
	}
	o := &v1alpha1.OnlinkNode{ObjectMeta: metav1.ObjectMeta{Name: name}}
	o.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}}
	o.Status.Sessions.Established = sessions
	if err := c.c.w.nodes.GetStore().Add(n); err != nil {
		c.t.Fatal(err)
	}
	if err := c.c.w.onNodes.GetStore().Add(o); err != nil {
		c.t.Fatal(err)
	}
	return o
}

// judge is what a turn decides about one block: who is asked, who receives it, and
// whether it is proven that none does.
func (c *court) judge() (names []string, heard string, proven bool, why string) {
	c.t.Helper()
	c.reckon()
	witnesses, why := c.witnesses()
	for _, o := range witnesses {
		names = append(names, o.Name)
	}
	b := &v1alpha1.Block{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: v1alpha1.BlockSpec{CIDR: asked}}
	heard, proven = c.heard(&c.dead, b, witnesses)
	for _, o := range witnesses {
		o.Spec.Questions = []v1alpha1.CIDR{asked}
	}
	return names, heard, proven, why
}

func (c *court) want(names string, heard string, proven bool, why string) {
	c.t.Helper()
	n, h, p, w := c.judge()
	if got := strings.Join(n, " "); got != names || h != heard || p != proven || (why == "") != (w == "") || !strings.Contains(w, why) {
		c.t.Fatalf("asks %q, heard by %q, proven %v, %q; want %q, %q, %v, %q", got, h, p, w, names, heard, proven, why)
	}
}

func reply(o *v1alpha1.OnlinkNode, heard bool) {
	o.Status.Answers = []v1alpha1.Answer{{CIDR: asked, Heard: heard, At: metav1.Now()}}
}

func TestWitnesses(t *testing.T) {
	t.Parallel()
	for name, play := range map[string]func(*court){
		"a reflector without a session is not asked": func(c *court) {
			reply(c.node("r1", true, 0), false)
			r2 := c.node("r2", true, 4)
			c.want("r2", "", false, "")
			reply(r2, false)
			c.want("r2", "", true, "")
		},
		"no reflector has a session": func(c *court) {
			c.node("r1", true, 0)
			c.node("n1", false, 3)
			c.want("", "", false, "r1 is not Ready or has no session")
		},
		"without a witness nothing is proven": func(c *court) {
			c.node("n1", false, 0)
			c.want("", "", false, "no node is Ready")
		},
		"a mute reflector is waited for for a minute": func(c *court) {
			r1, r2 := c.node("r1", true, 4), c.node("r2", true, 4)
			c.want("r1 r2", "", false, "")
			reply(r1, false)
			c.want("r1 r2", "", false, "")
			time.Sleep(mute)
			c.want("r1 r2", "", false, "")
			time.Sleep(time.Second)
			c.want("r1 r2", "", true, "")
			if text := c.log.String(); strings.Count(text, "witness=r2") != 1 || strings.Contains(text, "witness=r1") {
				c.t.Fatalf("the log does not name r2 once: %s", text)
			}
			reply(r2, true) // its word counts again
			c.want("r1 r2", "r2", false, "")
		},
		"an answer that a process left behind": func(c *court) {
			r1, r2 := c.node("r1", true, 4), c.node("r2", true, 4)
			reply(r1, false)
			reply(r2, false)
			c.want("r1 r2", "", false, "")
			time.Sleep(time.Second)
			reply(r1, false)
			r2.Spec.Questions = nil // it goes with the question, where a process takes it away
			for range 2 {
				c.reckon()
				time.Sleep(mute + time.Second)
			}
			c.reckon()
			witnesses, _ := c.witnesses()
			b := &v1alpha1.Block{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: v1alpha1.BlockSpec{CIDR: asked}}
			if _, proven := c.heard(&c.dead, b, witnesses); !proven {
				c.t.Fatal("r2 keeps the block although it removed no former answer for two minutes")
			}
		},
		"all are mute": func(c *court) {
			c.node("r1", true, 4)
			c.want("r1", "", false, "")
			c.want("r1", "", false, "")
			time.Sleep(mute + time.Second)
			c.want("r1", "", false, "r1 does not answer")
		},
		"one that answers slowly is not mute": func(c *court) {
			r1 := c.node("r1", true, 4)
			c.want("r1", "", false, "")
			for range 4 {
				c.want("r1", "", false, "")
				time.Sleep(mute / 2)
				r1.Status.Answers = []v1alpha1.Answer{{CIDR: "10.244.9.0/26", At: metav1.Now()}}
			}
			c.want("r1", "", false, "")
		},
		"a mesh asks another": func(c *court) {
			var all []*v1alpha1.OnlinkNode
			for _, name := range []string{"n1", "n2", "n3", "n4", "n5"} {
				all = append(all, c.node(name, false, 4))
			}
			c.want("n1 n2 n3", "", false, "")
			for _, o := range all[1:3] {
				reply(o, false)
			}
			c.want("n1 n2 n3", "", false, "")
			time.Sleep(mute + time.Second)
			c.want("n1 n2 n3 n4", "", false, "")
			reply(all[3], false)
			c.want("n1 n2 n3 n4", "", true, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { play(newCourt(t)) })
		})
	}
}

// TestAnswers: an answer counts that was given after the question.
func TestAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCourt(t)
		r1 := c.node("r1", true, 4)
		reply(r1, false) // from before
		c.want("r1", "", false, "")
		c.want("r1", "", false, "")
		time.Sleep(time.Second)
		reply(r1, true)
		c.want("r1", "r1", false, "")
		c.want("r1", "", false, "") // the next one may deny it
		time.Sleep(time.Second)
		reply(r1, false)
		c.want("r1", "", true, "")
		if !slices.Equal(r1.Spec.Questions, []v1alpha1.CIDR{asked}) {
			t.Fatalf("questions %v", r1.Spec.Questions)
		}
	})
}
