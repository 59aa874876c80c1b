package controller

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"onlink/kube/api/v1alpha1"
)

// defaults are the first objects of a cluster.
type defaults struct {
	config *v1alpha1.OnlinkConfig
	pools  []*v1alpha1.IPPool
}

// firstObjects creates the first objects in a cluster that never had any. It looks at
// the API server, not at caches. An OnlinkConfig, a Block or the Lease of a node say
// that onlink ran here before: then an absent OnlinkConfig is an alarm, because
// defaults in its place would be another configuration for every node.
func (c *controller) firstObjects(ctx context.Context) error {
	_, err := c.client.Configs.Get(ctx, v1alpha1.ConfigName, metav1.GetOptions{})
	if err == nil {
		c.m.alarm("config_absent", false)
		return nil
	}
	if !apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse) {
		return fmt.Errorf("read OnlinkConfig %s: %w", v1alpha1.ConfigName, err)
	}
	d, err := readDefaults(c.opt.Defaults)
	if err != nil {
		return err
	}
	used, err := c.used(ctx, d)
	if err != nil {
		return err
	}
	if used || d.config == nil {
		if c.m.alarm("config_absent", true) {
			c.log.Error("there is no OnlinkConfig: every node goes on with its last configuration; create it again", "name", v1alpha1.ConfigName)
		}
		return nil
	}
	for _, p := range d.pools {
		if _, err := c.client.Pools.Create(ctx, p, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create IPPool %s: %w", p.Name, err)
		}
	}
	// Last: an end in between is not taken for a cluster that had its first objects.
	if _, err := c.client.Configs.Create(ctx, d.config, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create OnlinkConfig %s: %w", d.config.Name, err)
	}
	c.log.Info("created the first objects", "file", c.opt.Defaults, "pools", len(d.pools))
	return nil
}

// used reports whether onlink ran in this cluster before.
func (c *controller) used(ctx context.Context, d *defaults) (bool, error) {
	one := metav1.ListOptions{Limit: 1}
	blocks, err := c.client.Blocks.List(ctx, one)
	if err != nil {
		return false, fmt.Errorf("list Blocks: %w", err)
	}
	leases, err := c.client.CoordinationV1().Leases(c.opt.Namespace).List(ctx, metav1.ListOptions{Limit: 1, LabelSelector: v1alpha1.NodeLabel})
	if err != nil {
		return false, fmt.Errorf("list Leases: %w", err)
	}
	pools, err := c.client.Pools.List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, fmt.Errorf("list IPPools: %w", err)
	}
	// Pools of the file: an end in the middle of the first creation.
	foreign := slices.ContainsFunc(pools.Items, func(p v1alpha1.IPPool) bool {
		return !slices.ContainsFunc(d.pools, func(o *v1alpha1.IPPool) bool { return o.Name == p.Name })
	})
	return len(blocks.Items) > 0 || len(leases.Items) > 0 || foreign, nil
}

// readDefaults reads the file of the first objects; an empty path has none.
func readDefaults(path string) (*defaults, error) {
	d := &defaults{}
	if path == "" {
		return d, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the first objects: %w", err)
	}
	docs := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for n := 1; ; n++ {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the first objects: %s: %w", path, err)
		}
		if err := d.add(doc); err != nil {
			return nil, fmt.Errorf("read the first objects: %s, document %d: %w", path, n, err)
		}
	}
	if d.config == nil {
		return nil, fmt.Errorf("read the first objects: %s has no OnlinkConfig: add one named %s", path, v1alpha1.ConfigName)
	}
	return d, nil
}

func (d *defaults) add(doc []byte) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &kind); err != nil {
		return err
	}
	switch {
	case kind == metav1.TypeMeta{}: // comments
		return nil
	case kind.APIVersion != v1alpha1.GroupVersion.String():
		return fmt.Errorf("apiVersion is %q: write %s", kind.APIVersion, v1alpha1.GroupVersion)
	case kind.Kind == "OnlinkConfig":
		d.config = &v1alpha1.OnlinkConfig{}
		return yaml.UnmarshalStrict(doc, d.config)
	case kind.Kind == "IPPool":
		p := &v1alpha1.IPPool{}
		d.pools = append(d.pools, p)
		return yaml.UnmarshalStrict(doc, p)
	}
	return fmt.Errorf("kind is %q: an OnlinkConfig and IPPools are created", kind.Kind)
}
