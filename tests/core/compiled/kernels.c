/* What compilers make of floating point and of loops over small integers, with -msse2: five kernels.
 *
 * Enters: `input`, random words from the test. Leaves: `output`. Next: test_compiled.py, which runs this twice: the
 * same 32-bit program in the guest and on the host, whose results have to be equal bit for bit.
 */
typedef unsigned char u8;
typedef unsigned int u32;

enum { N = 256, WIDTH = 24, HEIGHT = 16 };

static struct {
    float a[N], b[N];
    double c[N], d[N];
    int i[N];
    short s[N];
    u8 p[N], q[N];
} data;

struct output {
    float dot, saxpy[N];
    double sum, newton[N];
    u8 mandelbrot[HEIGHT][WIDTH];
    int sorted[N], products[N];
    u32 sad;
    short saturated[N];
    float converted[N];
    int truncated[N];
};

static void fill(const u32 *input)
{
    for (int n = 0; n < N; n++) {
        data.a[n] = (float)(int)input[n] / 65536.0f;
        data.b[n] = (float)(int)input[N - 1 - n] / 1024.0f;
        data.c[n] = (double)input[n] / 3.0;
        data.d[n] = (double)(int)input[N - 1 - n] * 1e-3;
        data.i[n] = (int)input[n];
        data.s[n] = (short)input[n];
        data.p[n] = (u8)input[n];
        data.q[n] = (u8)(input[n] >> 8);
    }
}

static float dot(void)
{
    float sum = 0;
    for (int n = 0; n < N; n++)
        sum += data.a[n] * data.b[n];
    return sum;
}

static int escape(double x, double y)
{
    double re = 0, im = 0;
    int n = 0;
    for (; n < 60 && re * re + im * im < 4; n++) {
        double next = re * re - im * im + x;
        im = 2 * re * im + y;
        re = next;
    }
    return n;
}

/* Batcher's network, on blocks of four lanes when the compiler vectorises it. */
static void sort(int *v)
{
    for (int k = 2; k <= N; k *= 2)
        for (int j = k / 2; j > 0; j /= 2)
            for (int n = 0; n < N; n++) {
                int m = n ^ j;
                if (m > n && (v[n] > v[m]) == !(n & k)) {
                    int t = v[n];
                    v[n] = v[m];
                    v[m] = t;
                }
            }
}

static u32 sad(void)
{
    u32 sum = 0;
    for (int n = 0; n < N; n++)
        sum += data.p[n] > data.q[n] ? data.p[n] - data.q[n] : data.q[n] - data.p[n];
    return sum;
}

void kernels(const u32 *input, struct output *out)
{
    fill(input);
    out->dot = dot();
    out->sum = 0;
    for (int n = 0; n < N; n++) {
        double root = data.c[n] + 1;
        for (int step = 0; step < 6; step++)
            root = 0.5 * (root + data.c[n] / (root + 1e-300));
        out->newton[n] = root;
        out->sum += data.c[n] * data.d[n] - root;
        out->saxpy[n] = 2.5f * data.a[n] + data.b[n];
        out->sorted[n] = data.i[n];
        out->products[n] = data.s[n] * (data.i[n] >> 16);
        int wide = data.s[n] + (short)(data.i[n] >> 16);
        out->saturated[n] = (short)(wide > 32767 ? 32767 : wide < -32768 ? -32768 : wide);
        out->converted[n] = (float)(data.c[n] * 1.7);
        out->truncated[n] = (int)data.d[n];
    }
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            out->mandelbrot[y][x] = (u8)escape(x * 0.125 - 2.2, y * 0.15 - 1.1);
    sort(out->sorted);
    out->sad = sad();
}

#ifdef NATIVE
/* The host's side: input on stdin, output on stdout, no C library. */
static int call(int number, int a, void *b, u32 c)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "0"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

__attribute__((force_align_arg_pointer)) void _start(void)
{
    static u32 input[N];
    static struct output out;
    call(3, 0, input, sizeof input);
    kernels(input, &out);
    call(4, 1, &out, sizeof out);
    call(1, 0, 0, 0);
}
#else
/* The guest's side: input and output at addresses that the test knows. */
__attribute__((force_align_arg_pointer)) void _start(void)
{
    kernels((const u32 *)0x200000, (struct output *)0x210000);
    __asm__ volatile("hlt");
}
#endif
