package cri

import (
	"archive/tar"
	stdbytes "bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
)

// PauseImage is the name of the image that pods run.
const PauseImage = "localhost/pause:1"

// WriteImage writes a container image of one static program, as an archive
// that `ctr images import` takes. No registry is needed.
func WriteImage(path, program string) error {
	binary, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	layer, err := archive([]file{{"pause", binary, 0o755}})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "history": []any{},
		"config": map[string]any{"Entrypoint": []string{"/pause"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	manifest, err := json.Marshal([]any{map[string]any{"Config": "config.json", "RepoTags": []string{PauseImage}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	image, err := archive([]file{{"manifest.json", manifest, 0o644}, {"config.json", config, 0o644}, {"layer.tar", layer, 0o644}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, image, 0o600); err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	return nil
}

type file struct {
	name string
	text []byte
	mode int64
}

func archive(files []file) ([]byte, error) {
	var out stdbytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.text))}); err != nil {
			return nil, fmt.Errorf("write archive: %w", err)
		}
		if _, err := w.Write(f.text); err != nil {
			return nil, fmt.Errorf("write archive: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	return out.Bytes(), nil
}
