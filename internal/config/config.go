package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"strata/internal/errdef"
)

// maxFile bounds a file: nobody writes more by hand.
const maxFile = 1 << 20

// Config is what strata.toml sets, with the defaults of what it does not. A value is text where docker's flag of the same
// meaning takes text, in the flag's form.
type Config struct {
	// DetachKeys leave an attachment: docker's notation, "" for what docker's config.json says, else ctrl-p,ctrl-q.
	DetachKeys string `toml:"detach-keys"`
	// Runtime is the OCI runtime of new containers: a name of Runtimes, a program's name or a path; "" takes the best found.
	Runtime string `toml:"runtime"`
	// Runtimes gives names to paths of programs, for --runtime.
	Runtimes map[string]string `toml:"runtimes"`
	// Ulimits are the limits of new containers by name, each "soft[:hard]".
	Ulimits  map[string]string `toml:"ulimits"`
	Log      Log               `toml:"log"`
	DNS      DNS               `toml:"dns"`
	Network  Network           `toml:"network"`
	Security Security          `toml:"security"`
	Devices  Devices           `toml:"devices"`
	Transfer Transfer          `toml:"transfer"`
	Store    Store             `toml:"store"`

	origins map[string]string // by key: the file that set it
}

// Store says how what is kept lies on the disk. The environment wins: STRATA_DURABLE, STRATA_BUILD_CACHE_MAX, STRATA_BLOB_CACHE_MAX.
type Store struct {
	Durable       string `toml:"durable"`         // end, always or never
	BuildCacheMax string `toml:"build-cache-max"` // "20g", "15%" of the disk, "none"; "" is a tenth of the disk, at least 2 GiB
	// BlobCacheMax bounds the compressed layers that are kept beside the layers, as BuildCacheMax does; "0" keeps none, "" is a
	// twentieth of the disk, at least 1 GiB.
	BlobCacheMax string `toml:"blob-cache-max"`
	// BuildCacheMaxAge is how long something in the build cache may be unused: "168h"; "" is for ever.
	BuildCacheMaxAge string `toml:"build-cache-max-age"`
	// ImageMax, ImageMaxAge and ImageKeep bound the images that no container uses, named ones too: the space of all images, how
	// long one may be unused, and how many of a repository are kept. "" and 0 are no bounds.
	ImageMax    string `toml:"image-max"`
	ImageMaxAge string `toml:"image-max-age"`
	ImageKeep   int    `toml:"image-keep"`
}

// Log says how the output of new containers is kept.
type Log struct {
	Driver  string `toml:"driver"`   // json-file, local or none
	MaxSize string `toml:"max-size"` // of one file: "10m", or "-1" for no bound
	MaxFile int    `toml:"max-file"` // so many are kept
}

// DNS is what new containers ask for names.
type DNS struct {
	Servers []string `toml:"servers"`
	Search  []string `toml:"search"`
	Options []string `toml:"options"`
}

// Network says what new networks are like.
type Network struct {
	// AddressPools are what networks without a subnet of their own take one of, in this order; none are the usual ranges.
	AddressPools []AddressPool `toml:"address-pools"`
}

// AddressPool is one of docker's default-address-pools: Base is cut into subnets whose prefixes are Size bits long.
type AddressPool struct {
	Base string `toml:"base"`
	Size int    `toml:"size"`
}

func (p AddressPool) String() string { return p.Base + " by /" + strconv.Itoa(p.Size) }

// Security is what new containers may do.
type Security struct {
	// NoNewPrivileges keeps their processes from gaining rights by set-user-ID programs.
	NoNewPrivileges bool `toml:"no-new-privileges"`
	// Seccomp is the system call filter: "builtin", "unconfined" or a file with a profile.
	Seccomp string `toml:"seccomp"`
	// Userns is root's --userns: "host", "auto" or "private".
	Userns string `toml:"userns"`
	// UsernsRange is where the ids of user namespaces begin and how many there are, "FIRST:COUNT", unless /etc/subuid and /etc/subgid
	// give a range to strata, containers or root.
	UsernsRange string `toml:"userns-range"`
}

// Devices are the machine's devices that containers and steps of builds may be given by name.
type Devices struct {
	// CDIDirs hold their descriptions (Container Device Interface); none are the standard's, /etc/cdi and /var/run/cdi.
	CDIDirs []string `toml:"cdi-dirs"`
}

// Transfer is what pulls and pushes take of a network.
type Transfer struct {
	MaxConcurrent int    `toml:"max-concurrent"` // connections that carry blobs at a time; 0 is the usual number
	LimitRate     string `toml:"limit-rate"`     // bytes a second of all of them together: "10m"; "" is no bound
}

// Default is what holds where no file says anything.
func Default() Config {
	return Config{
		Log:      Log{Driver: "json-file", MaxSize: "10m", MaxFile: 3},
		Security: Security{Seccomp: "builtin", Userns: "host", UsernsRange: "1879048192:268304384"},
		Store:    Store{Durable: "end"},
	}
}

// Files are the files that [Load] reads, those that may be missing included, each winning over those before it.
func Files() []string {
	if name := os.Getenv("STRATA_CONFIG"); name != "" {
		return []string{name}
	}
	files := []string{"/etc/strata/strata.toml"}
	if dir := userDir(); dir != "" {
		files = append(files, filepath.Join(dir, "strata", "strata.toml"))
	}
	return files
}

// userDir is where the user's programs keep their settings.
func userDir() string {
	if dir := os.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return dir
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".config")
	}
	return ""
}

// Load reads the files.
func Load() (*Config, error) {
	c := Default()
	c.origins = map[string]string{}
	for _, name := range Files() {
		raw, err := readFile(name)
		if errors.Is(err, fs.ErrNotExist) && os.Getenv("STRATA_CONFIG") == "" {
			continue
		}
		if err == nil {
			err = c.read(name, raw)
		}
		if err != nil {
			return nil, err
		}
	}
	return &c, nil
}

// read takes over what one file says.
func (c *Config) read(name string, raw []byte) error {
	if err := Strict(name, raw, c); err != nil {
		return err
	}
	keys, err := keysOf(raw)
	for _, key := range keys {
		c.origins[key] = name
	}
	return err
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("configuration %s: want a file of at most %d bytes: %w", name, maxFile, errdef.ErrInvalid)
	}
	raw := make([]byte, info.Size())
	n, err := f.ReadAt(raw, 0)
	if n < len(raw) {
		return nil, fmt.Errorf("configuration %s: %w", name, err)
	}
	return raw, nil
}

// Origin is the file that sets the key ("log.max-size"), or "default".
func (c *Config) Origin(key string) string {
	if name := c.origins[key]; name != "" {
		return name
	}
	return "default"
}

// Fault says that the value of a key is no good: err tells why. A nil err stays nil.
func (c *Config) Fault(key string, err error) error {
	if err == nil {
		return nil
	}
	return errdef.WithHint(fmt.Errorf("%s: %s: %w", c.Origin(key), key, err), "mend the line in "+c.Origin(key))
}

// Setting is one key with its value as text, and where it was set.
type Setting struct{ Name, Value, Origin string }

// Settings lists every key.
func (c *Config) Settings() []Setting {
	var all []Setting
	for _, v := range values(c) {
		all = append(all, Setting{Name: v.key, Value: v.text, Origin: c.Origin(v.key)})
	}
	slices.SortFunc(all, func(a, b Setting) int { return compare(a.Name, b.Name) })
	return all
}
