// Package cri runs pods the way kubelet does: Debian's containerd, called over
// the Container Runtime Interface, with onlink installed as its network.
package cri

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
)

// ErrReply is returned for an answer of the runtime that cannot be read, or
// lacks what it must have.
var ErrReply = errors.New("unusable answer of the container runtime")

// Client calls a container runtime as kubelet does (cri-api, package
// runtime.v1). It encodes the few messages it needs by their field numbers.
type Client struct{ cc *grpc.ClientConn }

// Dial prepares calls to the runtime that listens on a unix socket.
func Dial(socket string) (*Client, error) {
	cc, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{})))
	if err != nil {
		return nil, fmt.Errorf("open runtime's socket: %w", err)
	}
	return &Client{cc}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.cc.Close() }

// Pod is a sandbox to run.
type Pod struct {
	Namespace, Name, UID string
	Attempt              uint32
	LogDir               string
	Labels               map[string]string
}

// config is PodSandboxConfig.
func (p Pod) config() []byte {
	metadata := message(text(1, p.Name), text(2, p.UID), text(3, p.Namespace), number(4, uint64(p.Attempt)))
	linux := message(bytes(2, message(bytes(1, nil)))) // LinuxSandboxSecurityContext with NamespaceOption
	parts := [][]byte{bytes(1, metadata), text(3, p.LogDir), bytes(8, linux)}
	for key, value := range p.Labels {
		parts = append(parts, bytes(6, message(text(1, key), text(2, value))))
	}
	return message(parts...)
}

// Run is RunPodSandbox; it returns the sandbox's ID.
func (c *Client) Run(ctx context.Context, p Pod) (string, error) {
	reply, err := c.call(ctx, "RunPodSandbox", bytes(1, p.config()))
	if err != nil {
		return "", err
	}
	id := reply.text(1)
	if id == "" {
		return "", fmt.Errorf("RunPodSandbox: %w: no ID", ErrReply)
	}
	return id, nil
}

// Stop is StopPodSandbox.
func (c *Client) Stop(ctx context.Context, id string) error {
	_, err := c.call(ctx, "StopPodSandbox", text(1, id))
	return err
}

// Remove is RemovePodSandbox.
func (c *Client) Remove(ctx context.Context, id string) error {
	_, err := c.call(ctx, "RemovePodSandbox", text(1, id))
	return err
}

// List is ListPodSandbox: the IDs of all sandboxes.
func (c *Client) List(ctx context.Context) ([]string, error) {
	reply, err := c.call(ctx, "ListPodSandbox", nil)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, item := range reply[1] {
		m, err := parse(item)
		if err != nil {
			return nil, err
		}
		ids = append(ids, m.text(1))
	}
	return ids, nil
}

// Find is ListPodSandbox: the IDs of the sandboxes of a pod's name that run.
func (c *Client) Find(ctx context.Context, pod string) ([]string, error) {
	reply, err := c.call(ctx, "ListPodSandbox", nil)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, item := range reply[1] {
		m, err := parse(item)
		if err != nil {
			return nil, err
		}
		metadata, err := m.message(2)
		if err != nil {
			return nil, err
		}
		if metadata.text(1) == pod && m.number(3) == 0 { // SANDBOX_READY
			ids = append(ids, m.text(1))
		}
	}
	return ids, nil
}

// Address is the address PodSandboxStatus tells of.
func (c *Client) Address(ctx context.Context, id string) (netip.Addr, error) {
	reply, err := c.call(ctx, "PodSandboxStatus", text(1, id))
	if err != nil {
		return netip.Addr{}, err
	}
	status, err := reply.message(1)
	if err != nil {
		return netip.Addr{}, err
	}
	network, err := status.message(5)
	if err != nil {
		return netip.Addr{}, err
	}
	addr, err := netip.ParseAddr(network.text(1))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("PodSandboxStatus: %w: %w", ErrReply, err)
	}
	return addr, nil
}

// StartContainer is CreateContainer and StartContainer: one container of the
// image in the sandbox.
func (c *Client) StartContainer(ctx context.Context, id string, p Pod, image string) error {
	container := message(bytes(1, message(text(1, "main"))), bytes(2, message(text(1, image))), bytes(15, nil))
	reply, err := c.call(ctx, "CreateContainer", message(text(1, id), bytes(2, container), bytes(3, p.config())))
	if err != nil {
		return err
	}
	_, err = c.call(ctx, "StartContainer", text(1, reply.text(1)))
	return err
}

// NetworkReady is Status: what kubelet turns into the node's condition Ready.
// It returns nil, or why the runtime says that the node has no network.
func (c *Client) NetworkReady(ctx context.Context) error {
	reply, err := c.call(ctx, "Status", nil)
	if err != nil {
		return err
	}
	status, err := reply.message(1)
	if err != nil {
		return err
	}
	for _, item := range status[1] {
		condition, err := parse(item)
		if err != nil {
			return err
		}
		if condition.text(1) != "NetworkReady" {
			continue
		}
		if condition.number(2) == 1 {
			return nil
		}
		return fmt.Errorf("%w: %s: %s", errNoNetwork, condition.text(3), condition.text(4))
	}
	return fmt.Errorf("%w: Status without the condition NetworkReady", ErrReply)
}

var errNoNetwork = errors.New("the runtime has no network")

func (c *Client) call(ctx context.Context, method string, request []byte) (fields, error) {
	var reply []byte
	if err := c.cc.Invoke(ctx, "/runtime.v1.RuntimeService/"+method, &request, &reply, grpc.WaitForReady(true)); err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	return parse(reply)
}

// rawCodec passes messages through as they are.
type rawCodec struct{}

func (rawCodec) Name() string                  { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), b...)
	return nil
}

// message joins encoded fields.
func message(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func bytes(field protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), b)
}

func text(field protowire.Number, s string) []byte { return bytes(field, []byte(s)) }

func number(field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.VarintType), v)
}

// fields is a decoded message: the values of every field, numbers as they are
// encoded.
type fields map[protowire.Number][][]byte

func parse(b []byte) (fields, error) {
	out := fields{}
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", ErrReply, protowire.ParseError(n))
		}
		b = b[n:]
		n = protowire.ConsumeFieldValue(field, kind, b)
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", ErrReply, protowire.ParseError(n))
		}
		value := b[:n]
		if kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
		}
		out[field] = append(out[field], value)
		b = b[n:]
	}
	return out, nil
}

// text returns a field as a string, "" when it is absent.
func (f fields) text(field protowire.Number) string {
	if v := f[field]; len(v) > 0 {
		return string(v[len(v)-1])
	}
	return ""
}

// number returns a field as a number, 0 when it is absent.
func (f fields) number(field protowire.Number) uint64 {
	if v := f[field]; len(v) > 0 {
		n, _ := protowire.ConsumeVarint(v[len(v)-1])
		return n
	}
	return 0
}

// message returns a field as a message.
func (f fields) message(field protowire.Number) (fields, error) {
	v := f[field]
	if len(v) == 0 {
		return nil, fmt.Errorf("%w: field %d is missing", ErrReply, field)
	}
	return parse(v[len(v)-1])
}
