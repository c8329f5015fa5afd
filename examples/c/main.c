/* One program, two compiled models: runs each on an .npy input and prints the bits of the output, one element per line.

   The names come from the command line of the C compiler, so that any two models with one input and one output fit:
   -DFIRST=shapes -DFIRST_INPUT=image -DFIRST_OUTPUT=logits, and the same for SECOND. See README.md beside this file.

   Needs POSIX (mmap) and little-endian memory; everything else is C99. */

#define _POSIX_C_SOURCE 200112L
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOIN_EXPANDED(a, b) a##b
#define JOIN(a, b) JOIN_EXPANDED(a, b)
#define TEXT_EXPANDED(x) #x
#define TEXT(x) TEXT_EXPANDED(x)

#include TEXT(FIRST.h)
#include TEXT(SECOND.h)

/* What the header says of a model, as a value; a program for one known model would use the constants directly. */
struct model {
    const char *name;
    int inputs, outputs;
    size_t input_bytes, output_bytes, output_elements;
    size_t weights_size, prepared_size, prepared_align, arena_size, arena_align;
    int (*prepare)(const void *weights, void *prepared);
    int (*run)(const void *const *inputs, void *const *outputs, void *arena, const void *weights, const void *prepared,
        const struct sdc_parallel_for *parallel_for);
};

#define MODEL(NAME, INPUT, OUTPUT) { \
    TEXT(NAME), JOIN(NAME, _INPUT_COUNT), JOIN(NAME, _OUTPUT_COUNT), \
    JOIN(JOIN(NAME, _INPUT_BYTES_), INPUT), \
    JOIN(JOIN(NAME, _OUTPUT_BYTES_), OUTPUT), JOIN(JOIN(NAME, _OUTPUT_ELEMENTS_), OUTPUT), \
    JOIN(NAME, _WEIGHTS_SIZE), JOIN(NAME, _PREPARED_SIZE), JOIN(NAME, _PREPARED_ALIGN), \
    JOIN(NAME, _ARENA_SIZE), JOIN(NAME, _ARENA_ALIGN), JOIN(NAME, _prepare), JOIN(NAME, _run) }

static const struct model models[] = {
    MODEL(FIRST, FIRST_INPUT, FIRST_OUTPUT),
    MODEL(SECOND, SECOND_INPUT, SECOND_OUTPUT),
};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* Memory for `size` bytes, at least one so that a NULL always means failure. */
static void *allocate(size_t size, size_t align)
{
    void *memory = NULL;
    if (posix_memalign(&memory, align < sizeof(void *) ? sizeof(void *) : align, size ? size : 1) != 0)
        fail("memory", "exhausted");
    return memory;
}

/* The weights file, mapped: its pages are read when they are first used, and shared between processes. */
static const void *map_weights(const char *path, size_t size)
{
    struct stat status;
    int file = open(path, O_RDONLY);
    if (file < 0 || fstat(file, &status) != 0)
        fail(path, "cannot be opened");
    if ((size_t)status.st_size != size)
        fail(path, "is not this model's weights file: its size differs");
    void *weights = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0);
    if (weights == MAP_FAILED)
        fail(path, "cannot be mapped");
    close(file);
    return weights;
}

/* The elements of an .npy file, which must be exactly `size` bytes; the type and the shape are taken on trust. */
static void *read_npy(const char *path, size_t size)
{
    unsigned char start[10];
    FILE *file = fopen(path, "rb");
    if (!file)
        fail(path, "cannot be opened");
    if (fread(start, 1, sizeof start, file) != sizeof start || memcmp(start, "\x93NUMPY\x01", 7) != 0)
        fail(path, "is not an .npy file of version 1");
    void *elements = allocate(size, 64);
    if (fseek(file, start[8] + 256L * start[9], SEEK_CUR) != 0 || fread(elements, 1, size, file) != size || fgetc(file) != EOF)
        fail(path, "does not hold as many bytes as the model's input");
    fclose(file);
    return elements;
}

/* Prepares one model and runs it twice in the same memory: whatever a run leaves in the arena, the next must not mind. */
static void *run(const struct model *model, const char *weights_path, const char *input_path)
{
    if (model->inputs != 1 || model->outputs != 1)
        fail(model->name, "has more than one input or output");
    const void *weights = map_weights(weights_path, model->weights_size);
    void *prepared = allocate(model->prepared_size, model->prepared_align);
    int status = model->prepare(weights, prepared);
    if (status != 0)
        fail(model->name, status == 1 ? "these are not its weights" : "this CPU lacks a feature it was compiled for");

    void *input = read_npy(input_path, model->input_bytes);
    void *arena = allocate(model->arena_size, model->arena_align);
    void *results[2];
    for (int i = 0; i < 2; i++) {
        const void *inputs[] = { input };
        void *outputs[] = { results[i] = allocate(model->output_bytes, 64) };
        if (model->run(inputs, outputs, arena, weights, prepared, NULL) != 0)
            fail(model->name, "run failed");
    }
    if (memcmp(results[0], results[1], model->output_bytes) != 0)
        fail(model->name, "two runs differ");
    free(results[1]);
    free(arena);
    free(input);
    free(prepared);
    munmap((void *)weights, model->weights_size);
    return results[0];
}

static void print_bits(const struct model *model, const unsigned char *output)
{
    size_t width = model->output_elements ? model->output_bytes / model->output_elements : 0;
    for (size_t i = 0; i < model->output_elements; i++) {
        for (size_t byte = width; byte > 0; byte--)
            printf("%02x", output[i * width + byte - 1]);
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    if (argc != 5)
        fail("usage", "two-models FIRST.weights FIRST_INPUT.npy SECOND.weights SECOND_INPUT.npy");
    for (int i = 0; i < 2; i++) {
        void *output = run(&models[i], argv[1 + 2 * i], argv[2 + 2 * i]);
        printf("%s\n", models[i].name);
        print_bits(&models[i], output);
        free(output);
    }
    return 0;
}
