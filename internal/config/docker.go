package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"strata/internal/errdef"
)

// Docker is what docker's config.json sets of how its commands answer. The file is docker's: keys that mean nothing here
// are left alone.
type Docker struct {
	File       string `json:"-"` // "" without a file
	DetachKeys string `json:"detachKeys"`
	// The formats of listings whose --format is not given.
	PsFormat       string `json:"psFormat"`
	ImagesFormat   string `json:"imagesFormat"`
	StatsFormat    string `json:"statsFormat"`
	VolumesFormat  string `json:"volumesFormat"`
	NetworksFormat string `json:"networksFormat"`
	// Proxies are by the daemon's address; there is none here, so "default" is what counts.
	Proxies map[string]Proxy `json:"proxies"`
}

// Proxy is what containers and builds are to reach the world by.
type Proxy struct {
	HTTP  string `json:"httpProxy"`
	HTTPS string `json:"httpsProxy"`
	No    string `json:"noProxy"`
	FTP   string `json:"ftpProxy"`
	All   string `json:"allProxy"`
}

// DockerFile is where docker keeps its config.json.
func DockerFile() string {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "config.json")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".docker", "config.json")
}

// LoadDocker reads docker's config.json. A missing one sets nothing.
func LoadDocker() (Docker, error) {
	var d Docker
	name := DockerFile()
	if name == "" {
		return d, nil
	}
	raw, err := readFile(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || err == nil && len(raw) == 0 {
		return d, nil
	}
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, fmt.Errorf("%s: %w: %w", name, errdef.ErrInvalid, err)
	}
	d.File = name
	return d, nil
}

// Environment is the proxies as variables, in capital and in small letters as programs look for them.
func (d Docker) Environment() []string {
	p := d.Proxies["default"]
	var env []string
	for _, v := range [][3]string{
		{"HTTP_PROXY", "http_proxy", p.HTTP}, {"HTTPS_PROXY", "https_proxy", p.HTTPS}, {"NO_PROXY", "no_proxy", p.No},
		{"FTP_PROXY", "ftp_proxy", p.FTP}, {"ALL_PROXY", "all_proxy", p.All},
	} {
		if v[2] != "" {
			env = append(env, v[0]+"="+v[2], v[1]+"="+v[2])
		}
	}
	return env
}

// Settings lists the keys that the file sets, of those that mean something here.
func (d Docker) Settings() []Setting {
	p := d.Proxies["default"]
	var all []Setting
	for _, v := range [][2]string{
		{"detachKeys", d.DetachKeys}, {"psFormat", d.PsFormat}, {"imagesFormat", d.ImagesFormat}, {"statsFormat", d.StatsFormat},
		{"volumesFormat", d.VolumesFormat}, {"networksFormat", d.NetworksFormat}, {"proxies.default.httpProxy", p.HTTP},
		{"proxies.default.httpsProxy", p.HTTPS}, {"proxies.default.noProxy", p.No}, {"proxies.default.ftpProxy", p.FTP}, {"proxies.default.allProxy", p.All},
	} {
		if v[1] != "" {
			all = append(all, Setting{Name: v[0], Value: v[1], Origin: d.File})
		}
	}
	return all
}
