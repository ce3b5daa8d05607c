/* replay_main.c: drives a fuzz target without libFuzzer, so that every test run, with any compiler,
 * covers the parsers of foreign bytes.
 *
 *     <name>_fuzz [--mutations=N] [--seed=N] [file or folder]...
 *
 *  1. The empty input.
 *  2. Every file given, a folder's files sorted by name.
 *  3. N mutations of those files (of the empty input if there are none), in a series that only the
 *     seed decides: the same arguments give the same inputs on every machine.
 *
 * Inputs lie in heap blocks of exactly their size, so that AddressSanitizer sees the first byte
 * read past the end. When the program dies, the input at fault is written to
 * ./crash-<seed>-<number>. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* There with -fsanitize=address or undefined only. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

#define INPUT_BYTES_MAX ((size_t)1 << 20)
#define INSERT_BYTES_MAX 64
#define EDITS_MAX 6

struct input {
    uint8_t *bytes;
    size_t size;
};

struct corpus {
    struct input *inputs;
    size_t count;
};

/* What runs now; read by the handlers when it ends badly. */
static struct input current;
static uint64_t current_number;
static char crash_name[64];
static uint64_t seed = 1;

static void
die(const char *what, const char *on)
{
    perror(on);
    fprintf(stderr, "replay: cannot %s %s\n", what, on);
    exit(2);
}

static void *
must(void *allocated)
{
    if (allocated == NULL)
        die("allocate", "memory");
    return allocated;
}

/* Does only what is safe in a signal handler. */
static void
report_current(void)
{
    int fd = open(crash_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool written = fd >= 0 && write(fd, current.bytes, current.size) == (ssize_t)current.size;
    const char *words = written ? "\nreplay: the input is in " : "\nreplay: cannot write ";
    if (write(STDERR_FILENO, words, strlen(words)) < 0 ||
        write(STDERR_FILENO, crash_name, strlen(crash_name)) < 0 ||
        write(STDERR_FILENO, "\n", 1) < 0)
        _exit(2);
}

static void
on_signal(int number)
{
    report_current();
    signal(number, SIG_DFL);
    raise(number);
}

static void
watch_for_death(void)
{
    /* pgs_assert aborts, which AddressSanitizer leaves alone; its reports call back. */
    signal(SIGABRT, on_signal);
    if (__sanitizer_set_death_callback != NULL)
        __sanitizer_set_death_callback(report_current);
    else
        signal(SIGSEGV, on_signal);
}

/* xorshift64*: good enough to choose bytes, and the same everywhere. */
static uint64_t
random_next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545F4914F6CDD1D);
}

static size_t
random_below(uint64_t *state, size_t bound)
{
    return bound == 0 ? 0 : (size_t)(random_next(state) >> 16) % bound;
}

static void
run_one(const uint8_t *bytes, size_t size)
{
    uint8_t *exact = must(malloc(size == 0 ? 1 : size));
    if (size > 0)
        memcpy(exact, bytes, size);
    current = (struct input){ .bytes = exact, .size = size };
    snprintf(crash_name, sizeof(crash_name), "crash-%llu-%llu", (unsigned long long)seed,
             (unsigned long long)current_number);
    LLVMFuzzerTestOneInput(exact, size);
    current_number++;
    current = (struct input){ 0 };
    free(exact);
}

static void
corpus_add_file(struct corpus *corpus, const char *path)
{
    FILE *file = fopen(path, "rbe");
    struct stat info;
    if (file == NULL || fstat(fileno(file), &info) < 0)
        die("open", path);
    size_t size = (size_t)info.st_size;
    if (size > INPUT_BYTES_MAX)
        die("take a file this large:", path);
    struct input input = { .bytes = must(malloc(size == 0 ? 1 : size)), .size = size };
    if (fread(input.bytes, 1, size, file) != size)
        die("read", path);
    fclose(file);
    corpus->inputs = must(realloc(corpus->inputs, (corpus->count + 1) * sizeof(*corpus->inputs)));
    corpus->inputs[corpus->count++] = input;
}

static int
is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void
corpus_add_folder(struct corpus *corpus, const char *path)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, is_visible, alphasort);
    if (count < 0)
        die("list", path);
    for (int i = 0; i < count; i++) {
        char *name = NULL;
        if (asprintf(&name, "%s/%s", path, entries[i]->d_name) < 0)
            die("allocate", "memory");
        corpus_add_file(corpus, name);
        free(name);
        free(entries[i]);
    }
    free(entries);
}

/* A folder that is absent is an empty corpus: a new target starts without one. */
static void
corpus_add(struct corpus *corpus, const char *path)
{
    struct stat info;
    if (stat(path, &info) < 0)
        return;
    if (S_ISDIR(info.st_mode))
        corpus_add_folder(corpus, path);
    else
        corpus_add_file(corpus, path);
}

static void
corpus_release(struct corpus *corpus)
{
    for (size_t i = 0; i < corpus->count; i++)
        free(corpus->inputs[i].bytes);
    free(corpus->inputs);
}

/* Numbers that lengths and counts go wrong on. */
static uint8_t
interesting_byte(uint64_t *state)
{
    static const uint8_t bytes[] = { 0x00, 0x01, 0x7f, 0x80, 0xff, 0xfe, 0x20, 0x5c };
    return bytes[random_below(state, sizeof(bytes))];
}

static void
edit_insert(uint64_t *state, uint8_t *bytes, size_t *size)
{
    size_t count = 1 + random_below(state, INSERT_BYTES_MAX);
    size_t at = random_below(state, *size + 1);
    memmove(bytes + at + count, bytes + at, *size - at);
    for (size_t i = 0; i < count; i++)
        bytes[at + i] = (uint8_t)random_next(state);
    *size += count;
}

static void
edit_remove(uint64_t *state, uint8_t *bytes, size_t *size)
{
    size_t at = random_below(state, *size);
    size_t count = 1 + random_below(state, *size - at);
    memmove(bytes + at, bytes + at + count, *size - at - count);
    *size -= count;
}

/* Bytes of one place at another, as where one object's tail meets another's head. */
static void
edit_copy(uint64_t *state, uint8_t *bytes, size_t size)
{
    size_t from = random_below(state, size);
    size_t to = random_below(state, size);
    size_t room = size - (from > to ? from : to);
    memmove(bytes + to, bytes + from, 1 + random_below(state, room));
}

static void
edit(uint64_t *state, uint8_t *bytes, size_t *size)
{
    size_t choice = *size == 0 ? 0 : random_below(state, 6);
    switch (choice) {
    case 0: edit_insert(state, bytes, size); break;
    case 1: edit_remove(state, bytes, size); break;
    case 2: edit_copy(state, bytes, *size); break;
    case 3: bytes[random_below(state, *size)] ^= (uint8_t)(1u << random_below(state, 8)); break;
    case 4: bytes[random_below(state, *size)] = interesting_byte(state); break;
    default: *size = random_below(state, *size); break;
    }
}

static void
run_mutations(const struct corpus *corpus, uint64_t count)
{
    /* Never zero, which xorshift could not leave. */
    uint64_t state = seed * UINT64_C(0x9E3779B97F4A7C15) | 1;
    uint8_t *bytes = must(malloc(INPUT_BYTES_MAX + (size_t)EDITS_MAX * INSERT_BYTES_MAX));
    for (uint64_t i = 0; i < count; i++) {
        struct input base = { 0 };
        if (corpus->count > 0)
            base = corpus->inputs[random_below(&state, corpus->count)];
        size_t size = base.size;
        if (size > 0)
            memcpy(bytes, base.bytes, size);
        size_t edits = 1 + random_below(&state, EDITS_MAX);
        for (size_t j = 0; j < edits; j++)
            edit(&state, bytes, &size);
        run_one(bytes, size);
    }
    free(bytes);
}

int
main(int argc, char **argv)
{
    struct corpus corpus = { 0 };
    uint64_t mutations = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--mutations=", 12) == 0)
            mutations = strtoull(argv[i] + 12, NULL, 10);
        else if (strncmp(argv[i], "--seed=", 7) == 0)
            seed = strtoull(argv[i] + 7, NULL, 10);
        else
            corpus_add(&corpus, argv[i]);
    }
    watch_for_death();
    run_one(NULL, 0);
    for (size_t i = 0; i < corpus.count; i++)
        run_one(corpus.inputs[i].bytes, corpus.inputs[i].size);
    run_mutations(&corpus, mutations);
    printf("%llu inputs: %zu of the corpus, %llu mutations of seed %llu\n",
           (unsigned long long)current_number, corpus.count, (unsigned long long)mutations,
           (unsigned long long)seed);
    corpus_release(&corpus);
    return 0;
}
