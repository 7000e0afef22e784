package container

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const loopbackHosts = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::	ip6-localnet
ff00::	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

// etcFiles writes the files that stand over the image's /etc/hosts, /etc/hostname and /etc/resolv.conf into the
// container's directory and gives their mounts.
func (s *Store) etcFiles(rec Record) ([]specs.Mount, error) {
	files := []struct{ name, content string }{
		{"hosts", hosts(rec)},
		{"hostname", rec.Config.Hostname + "\n"},
		{"resolv.conf", hostFile("/etc/resolv.conf")},
	}
	var mounts []specs.Mount
	for _, f := range files {
		path := filepath.Join(s.Dir(rec.ID), f.name)
		// Not renamed into place: a container that is being restarted has none of them mounted.
		if err := os.WriteFile(path, []byte(f.content), 0o644); err != nil {
			return nil, fmt.Errorf("container file %s: %w", f.name, err)
		}
		mounts = append(mounts, specs.Mount{
			Destination: "/etc/" + f.name, Type: "bind", Source: path, Options: []string{"rbind", "rprivate"},
		})
	}
	return mounts, nil
}

func hosts(rec Record) string {
	var b strings.Builder
	if rec.Host.Network == "host" {
		b.WriteString(hostFile("/etc/hosts"))
	}
	if b.Len() == 0 {
		b.WriteString(loopbackHosts)
	}
	if rec.Host.Network == "none" {
		fmt.Fprintf(&b, "127.0.0.1\t%s\n", rec.Config.Hostname)
	}
	for _, h := range rec.Host.ExtraHosts {
		if name, addr, ok := strings.Cut(h, ":"); ok {
			fmt.Fprintf(&b, "%s\t%s\n", addr, name)
		}
	}
	return b.String()
}

// hostFile is a small file of the host, "" when it has none.
func hostFile(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil || len(raw) > 1<<20 {
		return ""
	}
	return string(raw)
}
