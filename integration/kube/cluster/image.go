package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
)

// The images that every node has.
const (
	PauseImage = "localhost/pause:1"
	// HelloImage runs integration/kube/cmd/hello.
	HelloImage = "localhost/hello:1"
)

// descriptor points at a blob of an OCI layout.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// layout is an OCI image layout that is written as one tar file.
type layout struct {
	text bytes.Buffer
	tar  *tar.Writer
}

// writeImage writes an image of one static program, /app, as an OCI layout in a
// tar file, with a name of its own.
func writeImage(path, name, program string) error {
	binary, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("write image %s: %w", name, err)
	}
	l := &layout{}
	l.tar = tar.NewWriter(&l.text)
	if err := l.image(name, binary); err != nil {
		return fmt.Errorf("write image %s: %w", name, err)
	}
	if err := os.WriteFile(path, l.text.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write image %s: %w", name, err)
	}
	return nil
}

func (l *layout) image(name string, binary []byte) error {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := add(w, "app", binary, 0o755); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	files, err := l.blob("application/vnd.oci.image.layer.v1.tar", layer.Bytes())
	if err != nil {
		return err
	}
	config, err := l.json("application/vnd.oci.image.config.v1+json", map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/app"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{files.Digest}},
	})
	if err != nil {
		return err
	}
	const manifestType = "application/vnd.oci.image.manifest.v1+json"
	manifest, err := l.json(manifestType, map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "config": config, "layers": []descriptor{files},
	})
	if err != nil {
		return err
	}
	manifest.Annotations = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "1"}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}})
	if err != nil {
		return err
	}
	if err := add(l.tar, "index.json", index, 0o644); err != nil {
		return err
	}
	if err := add(l.tar, "oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644); err != nil {
		return err
	}
	return l.tar.Close()
}

func (l *layout) json(mediaType string, value any) (descriptor, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return descriptor{}, err
	}
	return l.blob(mediaType, text)
}

func (l *layout) blob(mediaType string, text []byte) (descriptor, error) {
	sum := sha256.Sum256(text)
	digest := hex.EncodeToString(sum[:])
	return descriptor{MediaType: mediaType, Digest: "sha256:" + digest, Size: len(text)},
		add(l.tar, "blobs/sha256/"+digest, text, 0o644)
}

func add(w *tar.Writer, name string, text []byte, mode int64) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(text))}); err != nil {
		return err
	}
	_, err := w.Write(text)
	return err
}
