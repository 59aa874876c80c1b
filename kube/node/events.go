package node

import (
	"context"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	// eventQueue bounds the Events that wait for an API server that is away; more
	// are dropped, because the log and the status have them too.
	eventQueue = 32
	// eventPause is the pause between two Events: 300 broken objects must not be a
	// burst on every node.
	eventPause = time.Second
	// maxOnce bounds the memory of what was recorded once.
	maxOnce = 4096
)

// events records Events on the Node.
type events struct {
	log    *slog.Logger
	client kubernetes.Interface
	// queue is sent to by the reporter and never closed; full drops.
	queue chan *corev1.Event
	said  map[string]bool // the reporter's alone
}

func newEvents(log *slog.Logger, c kubernetes.Interface) *events {
	return &events{log: log, client: c, queue: make(chan *corev1.Event, eventQueue), said: map[string]bool{}}
}

// once records an Event the first time that its key is given.
func (e *events) once(key string, self *corev1.Node, kind, reason, message string) {
	if e.said[key] {
		return
	}
	if len(e.said) >= maxOnce {
		clear(e.said)
	}
	e.said[key] = true
	e.record(self, kind, reason, message)
}

// record records an Event.
func (e *events) record(self *corev1.Node, kind, reason, message string) {
	now := metav1.NewTime(time.Now())
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: self.Name + ".onlink-", Namespace: metav1.NamespaceDefault},
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: self.Name, UID: self.UID},
		Type:           kind, Reason: reason, Message: short(message), Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source: corev1.EventSource{Component: "onlink", Host: self.Name}, ReportingController: "onlink.io/node", ReportingInstance: self.Name,
	}
	select {
	case e.queue <- event:
	default:
		e.log.Debug("event dropped", "reason", reason, "message", message)
	}
}

// run writes Events until ctx ends. It returns nil then.
func (e *events) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case event := <-e.queue:
			call, cancel := context.WithTimeout(ctx, writeTime)
			_, err := e.client.CoreV1().Events(event.Namespace).Create(call, event, metav1.CreateOptions{})
			cancel()
			if err != nil && ctx.Err() == nil {
				e.log.Debug("failed to write event", "reason", event.Reason, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(eventPause):
		}
	}
}
