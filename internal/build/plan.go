package build

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/dockerfile"
	"strata/internal/fetch"
	"strata/internal/oci"
)

// Options say what is built of a Dockerfile, for whom and with which values.
type Options struct {
	// Target is the stage to build: a name or an index. Empty is the last stage.
	Target string
	// BuildArgs are the values of --build-arg. A nil value is a name that was given without a value and that the
	// environment does not have either: as if it had not been given. The predefined proxy arguments (HTTP_PROXY and its
	// kin) go to RUN steps as [Run.Proxy] without being declared.
	BuildArgs map[string]*string
	// Labels are set on the target image at the very end.
	Labels map[string]string
	// Platform is the target platform. The zero Platform means: this machine's, and the image keeps what its base says.
	Platform oci.Platform
	// Network is what RUN steps get that do not ask for a network themselves: "default", "none" or "host". Empty is "default".
	Network string
	// Steps are what RUN steps get beside what the Dockerfile says.
	Steps StepOptions
	// Contexts are the values of --build-context by their [ContextName]: what takes the place of a stage or an image of that
	// name. A value is "docker-image://NAME", "oci-layout://DIR[:TAG][@DIGEST]", "target:STAGE", or a tree of files, which
	// only [Deps.OpenContext] understands.
	Contexts map[string]string
	// NoCache marks every step as one that must run, NoCacheFilter the steps of the stages that it names.
	NoCache       bool
	NoCacheFilter []string
}

// Resolver finds the images that a Dockerfile names. The engine hands one in.
type Resolver interface {
	// ResolveImage finds the image called name, as written in the Dockerfile after expansion, for platform p.
	// A name that begins with [LayoutPrefix] is an image in an OCI layout. It is called concurrently, once for each name and
	// platform. errdef.ErrNotFound when there is none.
	ResolveImage(ctx context.Context, name string, p oci.Platform) (Base, error)
}

// Base is an image that a stage starts from or copies from.
type Base struct {
	// Name is the normalised name: "docker.io/library/alpine:3.20".
	Name string
	// Digest of the image's manifest; may be empty for an image that has none.
	Digest digest.Digest
	// ID is the digest of the image's config.
	ID digest.Digest
	// Config of the image. The plan never changes it.
	Config *oci.Image
	// Layers of the image, lowest first.
	Layers []oci.DiffID
}

// Plan is all that a build of one target for one platform does. It is data: nothing has been run.
type Plan struct {
	// File is what was planned.
	File *dockerfile.File
	// Platform of the target.
	Platform oci.Platform
	// Stages are those that the target needs, each after all it depends on; the last one is Target.
	// Images that only COPY --from names are stages too, with Index -1 and no steps.
	Stages []*Stage
	// Target is the stage whose image is the result.
	Target *Stage
	// Annotations belong on the result's manifest: org.opencontainers.image.base.name and .digest.
	Annotations map[string]string
	// Epoch is SOURCE_DATE_EPOCH where the build arguments or a global ARG give it, else nil.
	Epoch *time.Time
	// Warnings of the stages planned, after those of the file itself.
	Warnings []dockerfile.Warning
}

// Stage is one FROM with what follows it.
type Stage struct {
	// Index of the stage in the file, from 0; -1 for an image that only COPY --from names.
	Index int
	// ID is unique in the plan and stable between builds of a changed file: the stage's name, "stage-2" for one without
	// a name, "image:nginx" for an image that only COPY --from names.
	ID string
	// Name as written, lower-case; may be empty.
	Name string
	// Lines of the FROM instruction (or of the COPY --from).
	Lines Lines
	// Platform that the stage is for.
	Platform oci.Platform

	// Exactly one of these three is set. Parent is an earlier stage, Base an image, Scratch nothing at all.
	Parent  *Stage
	Base    *Base
	Scratch bool
	// FromName is what the display shows for the base: "[builder 1/5] FROM docker.io/library/alpine:3.20@sha256:…".
	// Empty unless Base is set.
	FromName string

	// Steps that make layers, in order. Instructions that only change the config are in Image already.
	Steps []*Step
	// Image is the stage's finished config: base's with all changes of the stage, and its History with one entry for each
	// instruction. RootFS is still the base's, Created is nil: execution fills in both. In History, the entries with
	// EmptyLayer false that follow the base's own are the Steps, in order ([Step.History]); they have no time yet.
	Image *oci.Image
	// NoCache: every step of the stage must run.
	NoCache bool
}

// Lines is a range of lines in the Dockerfile, both included, from 1.
type Lines struct{ First, Last int }

// Kind says what a step does; exactly the field of [Step] with that name is set.
type Kind string

// The kinds of step. ADD is KindCopy.
const (
	KindRun     Kind = "run"
	KindCopy    Kind = "copy"
	KindWorkdir Kind = "workdir"
)

// Step is one instruction that changes the file system.
type Step struct {
	Kind Kind
	// Index of the step among those of its stage, from 0.
	Index int
	// Name is what a person reads: "[builder 2/5] RUN make".
	Name string
	// Lines and Source of the instruction in the Dockerfile. A step from an ONBUILD trigger has the lines of its FROM.
	Lines  Lines
	Source string
	// OnBuild: the step comes from an ONBUILD trigger of the base.
	OnBuild bool
	// History is the index of the step's entry in the stage's Image.History.
	History int

	Run     *Run
	Copy    *Copy
	Workdir *Workdir
}

// Run executes a process on the stage's tree.
type Run struct {
	// Args of the process, the shell of a shell form included.
	Args []string
	// Env is the whole environment, "NAME=value": the image's and the build arguments in scope. HOME is not set here unless
	// the Dockerfile does.
	Env []string
	// BuildArgs are the names, sorted, of those arguments in scope that have a value: which of Env came from ARG.
	BuildArgs []string
	// Proxy is further environment, to be put after Env, that must not count for the cache.
	Proxy []string
	// Cwd is absolute.
	Cwd string
	// User as USER says: "", "name", "uid", "name:group", "uid:gid".
	User string
	// Network is "default", "none" or "host".
	Network string
	// Insecure: all capabilities and devices, nothing masked. RUN --security=insecure.
	Insecure bool
	// Options of the build, the same for every step.
	Options *StepOptions
	// Mounts are what the process finds in its tree beside the stage's own files.
	Mounts []Mount
	// Devices of the machine that the process is given. RUN --device.
	Devices []Device
}

// Device is one --device of a RUN.
type Device struct {
	// Name is vendor/class=device, vendor/class=* or vendor/class, as [runtime.Devices.Find] takes it.
	Name string
	// Required: without it the step fails; else it runs without.
	Required bool
}

// MountType says what a [Mount] shows.
type MountType string

// The types of --mount.
const (
	MountBind   MountType = "bind"
	MountCache  MountType = "cache"
	MountTmpfs  MountType = "tmpfs"
	MountSecret MountType = "secret"
	MountSSH    MountType = "ssh"
	// MountScript is the file of a here-document that begins with "#!".
	MountScript MountType = "script"
)

// Mount is one --mount of a RUN: something that is there while the process runs and gets into no layer.
type Mount struct {
	Type MountType
	// Target is absolute and clean. Of a secret it is "" when the secret is only an environment variable.
	Target string
	// From is the stage or image that a bind shows and that a cache begins with. Nil is the build context, of which Files
	// is what the mount selects, and for a cache nothing.
	From *Stage
	// Context is the --build-context that takes the context's place; "" is the build's own.
	Context string
	// Source is the path in From or in the context, absolute and clean.
	Source string
	// Files puts Source of the context into a tree of its own, at the same path. Set for a bind without From.
	Files    *Copy
	ReadOnly bool
	// ID of a cache, a secret or an agent.
	ID string
	// Sharing of a cache: "shared", "private" or "locked".
	Sharing string
	// Size of a tmpfs in bytes; 0 is the kernel's default.
	Size int64
	// Required: without the secret or the agent the step fails.
	Required bool
	// Env is the variable that a secret is given in; "" gives it in none.
	Env string
	// UID, GID and Mode of a secret's file, an agent's socket, a new cache's directory; nil is the type's default.
	UID, GID, Mode *uint32
	// Script is the text of a MountScript.
	Script string
}

// Copy puts files into the stage's tree.
type Copy struct {
	// From is the stage or image that the sources are in; nil is a context.
	From *Stage
	// Context is the --build-context that the sources are in; "" is the build's own.
	Context string
	// Sources in the order in which they are copied.
	Sources []Source
	// Inline are files that stand in the Dockerfile itself. They come after Sources.
	Inline []Inline
	// Dest is absolute. A trailing "/" or "/." is kept: it says that Dest is a directory.
	Dest string
	// Chown is "" (0:0; with From: as it is there) or "user[:group]", names or numbers.
	Chown string
	// Chmod is what becomes of the modes of files and directories; nil leaves them.
	Chmod *Chmod
	// Exclude are patterns of what is left out, relative to each source that is a directory.
	Exclude []string
	// Link puts what is copied into a layer that knows nothing of the tree below it.
	Link bool
}

// Source is one source of a COPY or ADD: a path, or something that is fetched.
type Source struct {
	// Written is how it stands in the Dockerfile, variables replaced.
	Written string
	// Path is relative to the root of From or of the context, slash-separated, clean, never above it; "." is the root. It
	// may be a pattern of path.Match. A pattern may match nothing; a path without meta characters must exist.
	Path string
	// Include is a pattern, relative to Path, of what of it is taken, with the directories on the way: COPY --parents.
	Include string
	// Parents: Include counts.
	Parents bool
	// URL of a file, or else Repo, makes it something that is fetched, and Path nothing.
	URL  string
	Repo *fetch.Repo
	// Checksum is the digest that the file of URL must have; "" is none.
	Checksum digest.Digest
	// Unpack the source if it is an archive.
	Unpack bool
}

// Inline is a file of a here-document, mode 0644.
type Inline struct {
	Name string
	Data string
}

// Workdir makes a directory, with its parents, mode 0755, where it does not exist.
type Workdir struct {
	Path string
	// User who owns what is made, as in [Run.User].
	User string
}
