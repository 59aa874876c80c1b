package client

import (
	"context"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// eventTime bounds the writing of one Event.
	eventTime = 10 * time.Second
	// maxEventText bounds an Event's message, which people read in one line.
	maxEventText = 1024
)

// EventSource says who writes Events, and how many.
type EventSource struct {
	// Component and Host are the source that an Event shows; Controller is its
	// reporting controller, and Instance its reporting instance.
	Component, Host, Controller, Instance string
	// Waiting bounds the Events that wait for an API server that is away; more are
	// dropped, because the log and the status have them too.
	Waiting int
	// Pause is the pause between two Events: 300 broken objects must not be a burst
	// on every node.
	Pause time.Duration
}

// Recorder writes Events one after the other, in the background.
type Recorder struct {
	log    *slog.Logger
	client *Client
	source EventSource
	queue  chan *corev1.Event // never closed; full drops
}

// NewRecorder returns a recorder; Events are written while Run runs.
func NewRecorder(log *slog.Logger, c *Client, source EventSource) *Recorder {
	return &Recorder{log: log, client: c, source: source, queue: make(chan *corev1.Event, source.Waiting)}
}

// Record records an Event about an object; kind is corev1.EventTypeNormal or
// EventTypeWarning.
func (r *Recorder) Record(about corev1.ObjectReference, kind, reason, message string) {
	now := metav1.NewTime(time.Now())
	namespace := about.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	if len(message) > maxEventText {
		message = strings.ToValidUTF8(message[:maxEventText-4], "") + " ..."
	}
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: about.Name + ".onlink-", Namespace: namespace},
		InvolvedObject: about, Type: kind, Reason: reason, Message: message, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source:              corev1.EventSource{Component: r.source.Component, Host: r.source.Host},
		ReportingController: r.source.Controller, ReportingInstance: r.source.Instance,
	}
	select {
	case r.queue <- event:
	default:
		r.log.Debug("event dropped", "reason", reason, "message", message)
	}
}

// Run writes Events until ctx ends. It returns nil then.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case event := <-r.queue:
			call, cancel := context.WithTimeout(ctx, eventTime)
			_, err := r.client.CoreV1().Events(event.Namespace).Create(call, event, metav1.CreateOptions{})
			cancel()
			if err != nil && ctx.Err() == nil {
				r.log.Debug("failed to write event", "reason", event.Reason, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(r.source.Pause):
		}
	}
}
