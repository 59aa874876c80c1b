package node

import (
	"context"
	"log/slog"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"onlink/kube/client"
)

const (
	// eventQueue bounds the Events that wait for an API server that is away.
	eventQueue = 32
	// eventPause is the pause between two Events: 300 broken objects must not be a
	// burst on every node.
	eventPause = time.Second
	// maxOnce bounds the memory of what was recorded once.
	maxOnce = 4096
)

// events records Events on the Node.
type events struct {
	recorder *client.Recorder
	said     map[string]bool // the reporter's alone
}

func newEvents(log *slog.Logger, c *client.Client, node string) *events {
	return &events{
		recorder: client.NewRecorder(log, c, client.EventSource{
			Component: "onlink", Host: node, Controller: "onlink.io/node", Instance: node, Waiting: eventQueue, Pause: eventPause,
		}),
		said: map[string]bool{},
	}
}

// once records a warning the first time that its key is given.
func (e *events) once(key string, self *corev1.Node, reason, message string) {
	if e.said[key] {
		return
	}
	if len(e.said) >= maxOnce {
		clear(e.said)
	}
	e.said[key] = true
	e.record(self, corev1.EventTypeWarning, reason, message)
}

// over forgets what was recorded once under keys that begin so: when it comes again
// it is another alarm.
func (e *events) over(prefix string) {
	maps.DeleteFunc(e.said, func(key string, _ bool) bool { return strings.HasPrefix(key, prefix) })
}

// record records an Event.
func (e *events) record(self *corev1.Node, kind, reason, message string) {
	e.recorder.Record(corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: self.Name, UID: self.UID}, kind, reason, message)
}

// run writes Events until ctx ends. It returns nil then.
func (e *events) run(ctx context.Context) error { return e.recorder.Run(ctx) }
