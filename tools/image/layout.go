package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Media types of image-spec 1.1.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Annotations that name an image in a layout. containerd takes the first, as a
// whole; the second is the tag alone.
const (
	noteName = "io.containerd.image.name"
	noteTag  = "org.opencontainers.image.ref.name"
)

// descriptor points at a blob (descriptor.md).
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// index is index.json (image-index.md): one manifest under each of its names.
type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

// manifest is an image (manifest.md).
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// imageConfig is how to run an image (config.md).
type imageConfig struct {
	Created      time.Time `json:"created"`
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Config       struct {
		Env        []string          `json:"Env"`
		Entrypoint []string          `json:"Entrypoint"`
		WorkingDir string            `json:"WorkingDir"`
		Labels     map[string]string `json:"Labels"`
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// layout is an image as the files of an OCI image layout (image-layout.md), in
// the order of their writing.
type layout struct {
	names []string
	files map[string][]byte
}

// build makes the image of these programs, under the tags version and dev.
func build(name, version string, programs []string) (*layout, error) {
	l, err := newLayer(programs)
	if err != nil {
		return nil, err
	}
	out := &layout{files: map[string][]byte{}}
	labels := map[string]string{"org.opencontainers.image.title": "onlink", "org.opencontainers.image.version": version}
	m := manifest{SchemaVersion: 2, MediaType: typeManifest, Annotations: labels}
	m.Layers = []descriptor{out.blob(typeLayer, l.blob)}
	var c imageConfig
	c.Created, c.Architecture, c.OS = time.Unix(0, 0).UTC(), l.arch, "linux"
	c.Config.Env, c.Config.WorkingDir, c.Config.Labels = []string{"PATH=/" + binDir}, "/", labels
	c.Config.Entrypoint = l.bins[:1]
	c.RootFS.Type, c.RootFS.DiffIDs = "layers", []string{l.diffID}
	if m.Config, err = out.object(typeConfig, c); err != nil {
		return nil, err
	}
	d, err := out.object(typeManifest, m)
	if err != nil {
		return nil, err
	}
	i := index{SchemaVersion: 2, MediaType: typeIndex}
	tags := []string{version}
	if version != "dev" {
		tags = append(tags, "dev")
	}
	for _, tag := range tags {
		d.Annotations = map[string]string{noteName: name + ":" + tag, noteTag: tag}
		i.Manifests = append(i.Manifests, d)
	}
	text, err := json.Marshal(i)
	if err != nil {
		return nil, err
	}
	out.add("index.json", text)
	out.add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	return out, nil
}

func (l *layout) add(name string, text []byte) {
	l.names = append(l.names, name)
	l.files[name] = text
}

// blob adds a blob and returns its descriptor.
func (l *layout) blob(mediaType string, text []byte) descriptor {
	sum := fmt.Sprintf("%x", sha256.Sum256(text))
	l.add("blobs/sha256/"+sum, text)
	return descriptor{MediaType: mediaType, Digest: "sha256:" + sum, Size: len(text)}
}

func (l *layout) object(mediaType string, v any) (descriptor, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, fmt.Errorf("encode %s: %w", strings.TrimPrefix(mediaType, "application/"), err)
	}
	return l.blob(mediaType, text), nil
}

// write writes the layout as a tar.
func (l *layout) write(w io.Writer) error {
	t := tar.NewWriter(w)
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := t.WriteHeader(header(dir, tar.TypeDir, 0o755, 0)); err != nil {
			return err
		}
	}
	for _, name := range l.names {
		if err := add(t, name, 0o644, l.files[name]); err != nil {
			return err
		}
	}
	return t.Close()
}
